"""How fronts of different costs are compared at equal errors."""

import numpy as np
import pytest

from benchmarks.latency import faster


def front(*members):
    return [{"error": error, "cost": cost, "kept": str(cost)} for error, cost in members]


def test_errors_are_those_that_every_front_reaches():
    fronts = [front((0.1, 5), (0.4, 1)), front((0.2, 9), (0.3, 8), (0.9, 7))]
    np.testing.assert_allclose(faster.common_errors(fronts, 3), [0.2, 0.3, 0.4])
    assert faster.common_errors([front((0.5, 1)), front((0.1, 1))], 2).tolist() == [0.5, 0.5]


def test_chosen_is_what_costs_least_within_the_error():
    members = front((0.1, 5), (0.2, 3), (0.3, 1))
    assert faster.chosen(members, 0.25)["cost"] == 3
    assert faster.chosen(members, 0.1)["cost"] == 5


def test_the_ratio_is_a_geometric_mean_within_its_interval():
    told = [{"ms": {"a": [1.0, 2.0], "b": [2.0, 4.0]}}, {"ms": {"a": [2.0, 2.0], "b": [2.0, 8.0]}}]
    found = faster.ratios(told, "a", "b")
    assert found["mean"] == pytest.approx(0.5)
    assert found["low"] <= found["mean"] <= found["high"]
