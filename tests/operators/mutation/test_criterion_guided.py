import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.mutation import CriterionGuided
from operators.testing import MutationContract
from operators.testing.toys import ToySpace, assert_valid
from spaces.base import Segment
from spaces.errors import InputError


class TestCriterionGuided(MutationContract):
    def mutation(self):
        return CriterionGuided(("magnitude", "taylor"), rate=0.1)


SPACE = ToySpace((Segment("loud", 20), Segment("quiet", 20)))
SCORES = np.concatenate([1e6 * (1 + np.arange(20)), 1e-6 * (1 + np.arange(20))])


def flips(genomes, guide, mutation, seed=0):
    """How often each locus goes off and comes on, (length,) each."""
    result = mutation(SPACE, genomes, guide, np.random.default_rng(seed))
    return (result < genomes).mean(axis=0), (result > genomes).mean(axis=0)


def half(n=4000):
    return SPACE.repair(np.random.default_rng(3).integers(0, 2, (n, 40)).astype(np.uint8))


def test_low_scores_go_and_high_scores_come_back():
    off, on = flips(half(), {"magnitude": SCORES}, CriterionGuided(("magnitude",), 0.1))
    for part in SPACE.slices.values():
        assert off[part][:5].sum() > 4 * off[part][-5:].sum()
        assert on[part][-5:].sum() > 4 * on[part][:5].sum()


def test_scales_of_segments_do_not_matter():
    off, on = flips(half(), {"magnitude": SCORES}, CriterionGuided(("magnitude",), 0.1))
    np.testing.assert_allclose(off[:20], off[20:], atol=0.02)
    np.testing.assert_allclose(on[:20], on[20:], atol=0.02)


def test_no_pressure_no_direction():
    off, on = flips(half(), {"magnitude": SCORES}, CriterionGuided(("magnitude",), 0.1, pressure=0))
    assert off.max() < 1.3 * off.min()
    assert on.max() < 1.3 * on.min()


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3])
def test_expected_number_of_flips(rate):
    genomes = half()
    result = CriterionGuided(("magnitude",), rate)(
        SPACE, genomes, {"magnitude": SCORES}, np.random.default_rng(0)
    )
    assert abs((result != genomes).mean() - rate) < 0.1 * rate


def test_children_shrink_and_grow_alike():
    genomes = half()
    sizes = CriterionGuided(("magnitude",), 0.1)(
        SPACE, genomes, {"magnitude": SCORES}, np.random.default_rng(0)
    ).sum(axis=1)
    change = sizes - genomes.sum(axis=1, dtype=np.int64)
    assert abs(change.mean()) < 0.15
    assert (change < 0).mean() > 0.25
    assert (change > 0).mean() > 0.25


def test_at_least_one_flip():
    genomes = half(500)
    result = CriterionGuided(("magnitude",), 1e-6)(
        SPACE, genomes, {"magnitude": SCORES}, np.random.default_rng(0)
    )
    assert ((result != genomes).sum(axis=1) == 1).all()


def test_what_little_was_dropped_mostly_stays_dropped():
    genomes = np.ones((2000, 40), dtype=np.uint8)
    genomes[:, :4] = 0
    _, on = flips(genomes, {"magnitude": np.ones(40)}, CriterionGuided(("magnitude",), 0.3))
    assert on[:4].mean() <= 0.5


def test_each_genome_draws_one_criterion():
    genomes, opposite = half(), {"magnitude": SCORES, "taylor": -SCORES}
    off = (
        CriterionGuided(("magnitude", "taylor"), 0.1, pressure=30)(
            SPACE, genomes, opposite, np.random.default_rng(0)
        )
        < genomes
    )
    low = (off[:, :10] | off[:, 20:30]).any(axis=1)
    high = (off[:, 10:20] | off[:, 30:]).any(axis=1)
    assert (low & high).mean() < 0.02
    assert abs(low.mean() - high.mean()) < 0.05


@given(st.integers(0, 2**32), st.floats(0.01, 1), st.floats(0, 8), st.integers(0, 10))
@settings(max_examples=60, deadline=None)
def test_anything_goes_in_and_valid_genomes_come_out(seed, rate, pressure, n):
    space, rng = ToySpace(), np.random.default_rng(seed)
    genomes = space.sample(n, rng)
    before = genomes.copy()
    scores = rng.choice([np.nan, np.inf, -np.inf, 0.0, 1.0], space.length)
    assert_valid(
        space, CriterionGuided(("x",), rate, pressure)(space, genomes, {"x": scores}, rng), before.shape
    )
    assert (genomes == before).all()


def test_choices_that_are_no_keep_bits_stay():
    space = ToySpace()
    genomes = space.sample(200, np.random.default_rng(0))
    result = CriterionGuided(("x",), 1.0)(
        space, genomes, {"x": np.zeros(space.length)}, np.random.default_rng(0)
    )
    assert (result[:, space.choices > 2] == genomes[:, space.choices > 2]).all()
    with pytest.raises(InputError, match="CriterionGuided: the space has no keep bits"):
        CriterionGuided(("x",))(
            ToySpace((Segment("depth", 3, 5),)),
            np.zeros((2, 3), np.uint8),
            {"x": np.zeros(3)},
            np.random.default_rng(0),
        )


def test_golden():
    genomes = np.tile(np.arange(40) % 2, (2, 1)).astype(np.uint8)
    result = CriterionGuided(("magnitude",), 0.1)(
        SPACE, genomes, {"magnitude": SCORES}, np.random.default_rng(1)
    )
    assert [np.flatnonzero(row).tolist() for row in result != genomes] == [
        [1, 38],
        [7, 12, 13, 14, 18, 23, 27],
    ]


def test_impossible_settings():
    for settings_, word in (
        ({"criteria": "magnitude"}, "criteria"),
        ({"criteria": ()}, "criteria"),
        ({"rate": 0}, "rate"),
        ({"pressure": -1}, "pressure"),
    ):
        with pytest.raises(InputError, match=f"CriterionGuided: {word}"):
            CriterionGuided(**settings_)
