import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from operators.selection import rank, tournament
from operators.testing.toys import global_generators_untouched


def by_definition(values):
    """Peel off what nobody dominates, again and again."""
    ranks, left, front = np.full(len(values), -1), np.arange(len(values)), 0
    while len(left):
        dominated = [
            (np.all(values[left] <= values[i], axis=1) & np.any(values[left] < values[i], axis=1)).any()
            for i in left
        ]
        ranks[left[~np.array(dominated)]] = front
        left, front = left[np.array(dominated)], front + 1
    return ranks


@given(
    hnp.arrays(
        np.float64, st.tuples(st.integers(1, 30), st.integers(1, 4)), elements=st.integers(0, 5).map(float)
    )
)
@settings(deadline=None)
def test_ranks_are_those_of_the_definition(values):
    assert (rank(values, np.zeros(len(values)))[0] == by_definition(values)).all()


def test_crowding_by_hand():
    ranks, crowding = rank(
        np.array([[0.0, 4.0], [1.0, 2.0], [3.0, 1.0], [4.0, 0.0], [5.0, 5.0]]), np.zeros(5)
    )
    assert ranks.tolist() == [0, 0, 0, 0, 1]
    np.testing.assert_allclose(crowding[:4], [np.inf, (3 / 4 + 3 / 4) / 2, (3 / 4 + 2 / 4) / 2, np.inf])


def test_infeasible_and_failed_rows_stand_behind_all_fronts():
    values = np.array([[1.0, 1.0], [0.0, 0.0], [2.0, 2.0], [np.inf, np.inf]])
    ranks, crowding = rank(values, np.array([0.0, 0.3, 0.0, np.inf]))
    assert ranks.tolist() == [0, 2, 1, 2]
    assert crowding[[1, 3]].tolist() == [0, 0]


def test_nobody():
    ranks, crowding = rank(np.zeros((0, 2)), np.zeros(0))
    assert ranks.shape == crowding.shape == (0,)
    assert tournament(ranks, crowding, np.zeros(0), 5, np.random.default_rng(0)).shape == (0,)
    assert tournament(np.zeros(2), np.zeros(2), np.full(2, np.inf), 5, np.random.default_rng(0)).shape == (0,)


def wins(ranks, crowding, violation, size=2):
    drawn = tournament(
        np.array(ranks), np.array(crowding), np.array(violation), 30_000, np.random.default_rng(0), size
    )
    return np.bincount(drawn, minlength=len(ranks)) / 30_000


def test_violation_then_rank_then_crowding():
    shares = wins([1, 0, 0, 2, 0], [9, 1, 2, 9, 9], [0, 0, 0, 0.1, np.inf])
    # Of four that take part the best wins 7/16 of the binary tournaments, then 5/16, 3/16 and 1/16.
    np.testing.assert_allclose(shares, [3 / 16, 5 / 16, 7 / 16, 1 / 16, 0], atol=0.01)


def test_size_is_the_pressure():
    np.testing.assert_allclose(wins([0, 1], [0, 0], [0, 0], size=1), [0.5, 0.5], atol=0.02)
    np.testing.assert_allclose(wins([0, 1], [0, 0], [0, 0], size=4), [15 / 16, 1 / 16], atol=0.02)


def test_chance_decides_between_equals():
    winners = {
        tournament(np.zeros(2), np.zeros(2), np.zeros(2), 1, np.random.default_rng(seed), size=9)[0]
        for seed in range(20)
    }
    assert winners == {0, 1}


def test_global_generators_stay_as_they_are():
    with global_generators_untouched():
        ranks, crowding = rank(np.random.default_rng(0).random((50, 3)), np.zeros(50))
        tournament(ranks, crowding, np.zeros(50), 20, np.random.default_rng(0))
