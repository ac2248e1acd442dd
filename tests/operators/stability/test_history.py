import json

import numpy as np
import pytest

from operators.stability import EdgeHistory, Histories


def test_rows_are_scaled_and_an_edge_that_lost_an_operation_starts_anew():
    histories = Histories()
    histories.record("a", ("x", "y", "z"), [0.2, 0.2, 0.4])  # "none" had the rest
    histories.record("a", ("x", "y", "z"), [0.1, 0.2, 0.1])
    histories.record("b", ("x", "y"), [0.5, 0.5])
    assert histories.edges["a"].importances.tolist() == [[0.25, 0.25, 0.5], [0.25, 0.5, 0.25]]
    histories.record("a", ("x", "z"), [0.2, 0.6])
    assert histories.edges["a"].operations == ("x", "z")
    assert histories.edges["a"].importances == pytest.approx(np.array([[0.25, 0.75]]))
    assert histories.edges["b"].checks == 1


def test_reset_forgets_one_edge_alone():
    histories = Histories()
    for edge in "ab":
        histories.record(edge, ("x", "y"), [0.5, 0.5])
    histories.reset("a", ("y",))
    assert histories.edges["a"].operations == ("y",)
    assert histories.edges["a"].importances.shape == (0, 1)
    assert histories.edges["b"].checks == 1


def test_an_earlier_look_does_not_change():
    histories = Histories()
    histories.record("a", ("x", "y"), [0.5, 0.5])
    before = histories.edges
    histories.record("a", ("x", "y"), [0.1, 0.9])
    assert before["a"].checks == 1


def test_the_state_comes_back_bit_by_bit_through_json():
    histories = Histories()
    for row in np.random.default_rng(0).dirichlet(np.ones(3), 5):
        histories.record("a", ("x", "y", "z"), row)
    histories.reset("b", ("x", "y"))
    again = Histories.of(json.loads(json.dumps(histories.state())))
    assert (again.edges["a"].importances == histories.edges["a"].importances).all()
    assert again.edges["b"].importances.shape == (0, 2)
    again.record("a", ("x", "y", "z"), [1, 1, 1])
    assert again.edges["a"].checks == 6


@pytest.mark.parametrize("row", [[0.5], [0.5, np.nan], [0.0, 0.0], [-0.1, 1.1]])
def test_importances_that_are_none_are_refused(row):
    with pytest.raises(ValueError, match="edge 'a'"):
        Histories().record("a", ("x", "y"), row)


def test_the_best_and_ties_by_name():
    history = EdgeHistory(("y", "x", "z"), np.array([[0.4, 0.4, 0.2]]))
    assert history.best(1) == ("x",)
    assert history.best(2) == ("y", "x")
    assert EdgeHistory(("x", "z", "y"), np.array([[0.4, 0.2, 0.4]])).best(1) == ("x",)
