import numpy as np

from operators.mutation import ActivationGuided
from operators.testing import MutationContract
from operators.testing.toys import ToySpace
from spaces.base import Segment


class TestActivationGuided(MutationContract):
    def mutation(self):
        return ActivationGuided(rate=0.1)


class TestActivationGuidedWithBase(MutationContract):
    def mutation(self):
        return ActivationGuided(rate=0.1)

    def guide(self, space, n):
        return {**super().guide(space, n), "base_activation": np.random.default_rng(1).random(space.length)}


SPACE = ToySpace((Segment("a", 20), Segment("b", 20)))


def parents(n=4000):
    """Even loci are kept."""
    return np.tile(np.arange(40) % 2 == 0, (n, 1)).astype(np.uint8)


def flips(guide, genomes=None, rate=0.1):
    genomes = parents() if genomes is None else genomes
    result = ActivationGuided(rate)(SPACE, genomes, guide, np.random.default_rng(0))
    return (result < genomes).mean(axis=0), (result > genomes).mean(axis=0)


def recorded(levels):
    """As a parent's report: NaN where nothing was kept."""
    return np.where(parents() == 1, levels, np.nan)


def test_quiet_channels_go():
    off, _ = flips({"activation": recorded(np.tile(np.arange(20.0), 2))})
    assert off[[0, 2, 20, 22]].min() > 3 * off[[16, 18, 36, 38]].max()


def test_every_parent_has_its_own_activations():
    levels = np.where(np.arange(4000)[:, None] < 2000, np.arange(40.0), -np.arange(40.0))
    result = ActivationGuided(0.1)(
        SPACE, parents(), {"activation": recorded(levels)}, np.random.default_rng(0)
    )
    off = result < parents()
    assert off[:2000, 0].sum() > 3 * off[:2000, 18].sum()
    assert off[2000:, 18].sum() > 3 * off[2000:, 0].sum()


def test_unknown_dropped_channels_come_back_alike():
    _, on = flips({"activation": recorded(np.tile(np.arange(20.0), 2))})
    assert on[1::2].max() < 1.3 * on[1::2].min()


def test_dropped_channels_that_were_loud_in_the_base_model_come_back():
    _, on = flips(
        {"activation": recorded(np.tile(np.arange(20.0), 2)), "base_activation": np.tile(np.arange(20.0), 2)}
    )
    assert on[[17, 19, 37, 39]].min() > 3 * on[[1, 3, 21, 23]].max()


def test_a_base_model_on_another_scale_is_as_good():
    levels = np.tile(1 + np.arange(20.0), 2)
    same, louder = (
        flips({"activation": recorded(levels), "base_activation": levels * factor}) for factor in (1, 1000)
    )
    np.testing.assert_array_equal(same, louder)


def test_a_rising_score_of_a_dropped_channel_counts():
    levels = np.tile(np.arange(20.0), 2)
    activation = recorded(levels)
    activation[:, 1] = 100  # a parent that still records a masked channel
    _, on = flips({"activation": activation, "base_activation": levels})
    assert on[1] > 3 * on[3]


def test_one_row_of_activations_serves_all_genomes():
    levels = np.tile(np.arange(20.0), 2)
    np.testing.assert_array_equal(
        flips({"activation": levels}), flips({"activation": np.tile(levels, (4000, 1))})
    )


def test_silent_segments_are_no_trouble():
    off, on = flips({"activation": recorded(np.zeros(40)), "base_activation": np.zeros(40)})
    assert off[::2].min() > 0
    assert on[1::2].min() > 0
