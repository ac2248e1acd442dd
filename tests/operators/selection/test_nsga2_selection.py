import copy
import pickle

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from operators.selection import NSGA2Selection, rank
from operators.selection.bridge import Minimised, individuals
from operators.testing import SelectionContract


class TestNSGA2Selection(SelectionContract):
    def selection(self):
        return NSGA2Selection()


def select(values, k, violation=None):
    values = np.asarray(values, dtype=float)
    return NSGA2Selection()(
        values, np.zeros(len(values)) if violation is None else violation, k, np.random.default_rng(0)
    )


def test_ends_of_the_front_and_wide_gaps_survive():
    values = [[0, 10], [1, 9], [1.1, 8.9], [1.2, 8.8], [5, 5], [10, 0]]
    assert set(select(values, 3).tolist()) == {0, 4, 5}


def test_whole_fronts_before_crowding():
    values = [[0, 2], [1, 1], [2, 0], [1, 3], [2, 2], [3, 1], [9, 9]]
    assert set(select(values, 4).tolist()) >= {0, 1, 2}
    assert 6 not in select(values, 6)


@given(
    hnp.arrays(
        np.float64, st.tuples(st.integers(2, 25), st.integers(2, 3)), elements=st.integers(0, 4).map(float)
    ),
    st.integers(1, 24),
)
@settings(deadline=None)
def test_nobody_survives_a_better_front_that_does_not(values, k):
    chosen = select(values, k)
    fronts, _ = rank(values, np.zeros(len(values)))
    lost = np.setdiff1d(np.arange(len(values)), chosen)
    if len(lost):
        assert fronts[chosen].max() <= fronts[lost].min()


def test_older_one_of_equals_survives_among_infeasible():
    assert select(np.zeros((5, 2)), 3, np.full(5, 0.5)).tolist() == [0, 1, 2]


def test_golden():
    values = np.random.default_rng(42).random((20, 2))
    assert sorted(select(values, 8).tolist()) == [2, 4, 7, 8, 13, 16, 17, 18]


def test_individuals_pickle_and_copy():
    individual = individuals(np.array([[1.0, 2.0, 3.0]]))[0]
    for copied in (pickle.loads(pickle.dumps(individual)), copy.deepcopy(individual)):
        assert copied.fitness.values == (1.0, 2.0, 3.0)
        assert copied.fitness == individual.fitness
    assert Minimised((1.0, 1.0)).dominates(Minimised((1.0, 2.0)))
