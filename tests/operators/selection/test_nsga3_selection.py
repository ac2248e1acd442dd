from math import comb

import numpy as np
import pytest

from operators.selection import NSGA3Selection
from operators.selection.nsga3 import _fitting_divisions
from operators.testing import SelectionContract
from spaces.errors import InputError


class TestNSGA3Selection(SelectionContract):
    def selection(self):
        return NSGA3Selection()


def select(values, k, divisions=None, seed=0):
    return NSGA3Selection(divisions)(values, np.zeros(len(values)), k, np.random.default_rng(seed))


def simplex(divisions):
    grid = [(i, j, divisions - i - j) for i in range(divisions + 1) for j in range(divisions + 1 - i)]
    return np.array(grid, dtype=float) / divisions


def test_every_reference_direction_keeps_its_nearest():
    directions = simplex(4)
    rng = np.random.default_rng(0)
    crowd = np.array([0.34, 0.33, 0.33]) + rng.normal(0, 0.005, (60, 3))
    crowd += (1 - crowd.sum(axis=1, keepdims=True)) / 3  # on the plane of the others: nobody is dominated
    chosen = select(np.concatenate([crowd, directions]), 15, divisions=4)
    assert set(chosen.tolist()) >= set(range(60, 75)) - {
        60 + i for i, d in enumerate(directions) if np.abs(d - 1 / 3).max() < 0.2
    }


def test_three_objectives_spread_wider_than_by_chance():
    rng = np.random.default_rng(1)
    points = rng.dirichlet([1, 1, 1], 300) ** 0.5  # a sphere: nobody is dominated

    def coverage(rows):
        directions = simplex(6) / np.linalg.norm(simplex(6), axis=1, keepdims=True)
        return np.linalg.norm(directions[:, None] - points[rows][None], axis=2).min(axis=1).mean()

    by_chance = np.mean([coverage(rng.choice(300, 28, replace=False)) for _ in range(20)])
    assert coverage(select(points, 28)) < 0.7 * by_chance


@pytest.mark.parametrize("objectives", [2, 3, 5])
@pytest.mark.parametrize("k", [1, 2, 10, 64, 200])
def test_at_most_one_reference_point_a_survivor(objectives, k):
    divisions = _fitting_divisions(objectives, k)
    assert divisions == 1 or comb(divisions + objectives - 1, objectives - 1) <= k
    assert comb(divisions + objectives, objectives - 1) > k


def test_the_generator_decides_ties():
    values = np.repeat(simplex(3), 6, axis=0)
    assert {tuple(sorted(select(values, 12, seed=seed).tolist())) for seed in range(6)} != {
        tuple(sorted(select(values, 12).tolist()))
    }


def test_golden():
    values = np.random.default_rng(42).random((30, 3))
    assert sorted(select(values, 10).tolist()) == [5, 11, 12, 16, 19, 22, 23, 24, 28, 29]


def test_impossible_divisions():
    with pytest.raises(InputError, match="NSGA3Selection: divisions"):
        NSGA3Selection(0)
