import numpy as np
import pytest

from operators.mutation import RemovalPruning
from operators.testing import PruningContract
from operators.testing.toys import ToySpace
from spaces.base import Segment
from spaces.errors import InputError

SPACE = ToySpace((Segment("a", 4), Segment("b", 4)))
FULL = np.ones((1, 8), dtype=np.uint8)


class TestRemovalPruning(PruningContract):
    def mutation(self):
        return RemovalPruning(amount=0.3, noise=5.0)  # so much that everybody may go


def gone(mutation, rises, costs):
    guide = {"removal": np.asarray(rises, dtype=float), "cost": np.asarray(costs, dtype=float)}
    return np.flatnonzero(mutation(SPACE, FULL, guide, np.random.default_rng(0))[0] == 0).tolist()


def test_who_costs_the_most_for_the_least_loss_goes_first():
    rises, costs = [4, 4, 4, 4, 2, 4, 4, 4], [0.1, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1]
    assert gone(RemovalPruning(0.05, power=0), rises, costs) == [4]
    assert gone(RemovalPruning(0.05, power=1), rises, costs) == [2]


def test_the_root_of_the_cost_is_between():
    """A unit four times as dear may matter twice as much, not three times."""
    for rise, first in ((1.9, 0), (2.1, 7)):
        assert gone(
            RemovalPruning(0.01), [rise, 9, 9, 9, 9, 9, 9, 1], [0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
        ) == [first]


def test_it_takes_its_share_of_the_parameters_rounded_up_to_a_unit():
    rises, costs = np.arange(8) + 1.0, np.full(8, 0.1)
    for amount, count in ((0.0, 0), (0.05, 1), (0.1, 1), (0.11, 2), (0.3, 3)):
        assert len(gone(RemovalPruning(amount, power=0), rises, costs)) == count


def test_loci_of_which_nothing_is_known_stay():
    rises = [np.nan, 1, 1, 1, np.nan, 1, 1, 1]
    assert not {0, 4} & set(gone(RemovalPruning(1.0), rises, np.full(8, 0.1)))


def test_of_those_that_do_not_matter_the_dearest_goes():
    assert gone(
        RemovalPruning(0.05), [-3, -1, -2, 5, 5, 5, 5, 5], [0.1, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1]
    ) == [1]


def test_noise_lets_others_go():
    guide = {"removal": np.linspace(1, 1.7, 8), "cost": np.full(8, 0.1)}
    mutation, rng = RemovalPruning(0.1, noise=1.0), np.random.default_rng(0)
    assert np.mean([mutation(SPACE, FULL, guide, rng)[0] == 0 for _ in range(300)], axis=0).all()


def test_tilt_takes_whole_segments_and_leaves_the_order_within_them():
    guide = {"removal": np.tile([1.0, 1.1, 1.2, 1.3], 2), "cost": np.full(8, 0.1)}
    mutation, rng = RemovalPruning(0.4, power=0, tilt=3.0), np.random.default_rng(0)
    left = np.array([mutation(SPACE, FULL, guide, rng)[0] for _ in range(60)])
    shares = left[:, :4].sum(axis=1)
    assert {1, 4} <= set(shares.tolist())  # the last of a segment is kept
    assert (np.diff(left.reshape(-1, 4).astype(int), axis=1) >= 0).all()


@pytest.mark.parametrize("name", ["power", "noise", "tilt"])
def test_negative_settings_are_refused(name):
    with pytest.raises(InputError, match=f"RemovalPruning: {name} -1; expected at least 0"):
        RemovalPruning(**{name: -1})
