"""The harness of pruners on recorded curves, on small tables with known answers; needs no lcdb."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.tables import curves
from benchmarks.tables.curve_arms import ARMS, EXISTING, NONE, OURS, Choice, Moment, Session, quiet, simulate
from benchmarks.tables.curves import Curves, chosen, compared, figures, over_none, ratio, regrets, runs


def table(trials=40, steps=8, seed=0):
    """Curves that fall evenly to an end, so that a rank at any step is the final one."""
    ends = np.random.default_rng(seed).permutation(trials) / trials
    return Curves(f"even {seed}", ends[:, None] + 1 / np.arange(1, steps + 1), ends)


class Stops(Session):
    """Hands out rows in order; lets those that are given go on from where they stopped, once."""

    def __init__(self, order, steps):
        self.left, self.heard = [(int(row), 0) for row in order], []

    def take(self):
        return self.left.pop(0) if self.left else None

    def report(self, row, step, value):
        self.heard.append((row, step))
        if step == 2 and self.heard.count((row, 2)) == 1:
            self.left.append((row, 2))
            return True
        return False


def session_of(errors, workers, **limits):
    made = []

    def arm(order, steps):
        made.append(Stops(order, steps))
        return made[0]

    trace = simulate(errors, arm, 0, workers, limits.pop("steps", 10**6), **limits)
    return made[0], trace


def test_without_pruning_the_best_of_the_first_rows_is_chosen():
    one = table()
    order = np.random.default_rng([24, 3]).permutation(40)
    with quiet():
        trace = simulate(one.errors, ARMS[NONE], 3, 1, 5 * 8)
    for whole in range(1, 6):
        assert chosen(trace, steps=whole * 8) == min(order[:whole], key=lambda row: one.errors[row, -1])
    assert chosen(trace, steps=7) == order[0]


def test_a_trial_that_goes_on_is_not_paid_twice():
    errors = table(trials=5, steps=4).errors
    session, _ = session_of(errors, 1)
    assert sorted(session.heard) == [(row, step) for row in range(5) for step in range(1, 5)]


def test_a_budget_of_steps_and_of_time_ends_a_run():
    errors = table(trials=5, steps=4).errors
    assert len(session_of(errors, 1, steps=7)[0].heard) == 7
    session, trace = session_of(errors, 5, time=1.0)
    assert 0 < len(session.heard) < 20
    assert all(moment.time <= 1.0 for moment in trace)


def test_many_workers_do_the_same_work_in_less_time():
    errors = table(trials=32, steps=4).errors
    ends = {}
    for workers in (1, 16):
        session, _ = session_of(errors, workers)
        assert len(session.heard) == 32 * 4
        with quiet():
            ends[workers] = simulate(errors, ARMS[NONE], 0, workers, 10**6)[-1]
    assert ends[1].row == ends[16].row == int(errors[:, -1].argmin())
    assert ends[16].time < ends[1].time


def test_before_one_is_complete_the_lowest_latest_report_is_chosen():
    choice = Choice()
    for row, value, complete in (
        (0, 0.5, False),
        (1, 0.4, False),
        (1, 0.9, False),
        (2, 0.8, True),
        (3, 0.1, False),
    ):
        choice.hear(Moment(0, 0.0, row), value, complete)
    assert [moment.row for moment in choice.trace] == [0, 1, 0, 2]


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_finds_the_best_of_even_curves_with_enough_steps(name):
    one = table()
    with quiet():
        trace = simulate(one.errors, ARMS[name], 1, 4, 40 * 8)
    assert one.regret(chosen(trace)) <= 0.1


def test_where_ranks_never_change_pruning_finds_better_trials_than_none():
    tasks = [table()]
    found = regrets(tasks, runs(tasks, [NONE, "Optuna median", OURS], 6, 1, 10, np.inf), steps=10)
    assert over_none(tasks, found)[OURS] < 1
    assert over_none(tasks, found)[NONE] == pytest.approx(1)
    assert compared(tasks, found, [NONE])["ratio"] == pytest.approx(over_none(tasks, found)[OURS])


def test_a_ratio_takes_the_best_of_every_task_and_counts_no_regret_as_the_floor():
    ours = {"a": np.array([0.1, 0.3]), "b": np.zeros(2)}
    theirs = {"a": np.array([[0.4, 0.4], [0.9, 0.9]]), "b": np.array([[0.5, 0.5], [0.04, 0.04]])}
    found = ratio(ours, theirs, {"a": 0.01, "b": 0.01})
    assert found["of a"] == pytest.approx(0.5)
    assert found["of b"] == pytest.approx(0.25)
    assert found["ratio"] == pytest.approx(np.sqrt(0.125))
    assert (found["worst_task"], found["worst"]) == ("a", pytest.approx(0.5))
    assert found["lower"] <= found["ratio"] <= found["upper"]
    assert found["lower"] == pytest.approx(np.sqrt(0.25 * 0.25))  # the first seed alone


def test_the_learner_that_was_chosen_is_judged_by_its_test_error():
    one = Curves("two", np.array([[0.5, 0.1], [0.4, 0.2]]), np.array([0.30, 0.25]))
    assert one.regret(1) == pytest.approx(0.1)
    assert one.learner_regret(0) == pytest.approx(0.05)
    assert one.resolution == pytest.approx(0.1)


def test_tuning_and_reporting_share_no_data_set():
    assert len({*curves.TUNING, *curves.REPORTING}) == len(curves.TUNING) + len(curves.REPORTING) == 40


def test_figures_hold_what_is_asked(monkeypatch):
    monkeypatch.setattr(curves, "load", lambda name: table(seed=name))
    monkeypatch.setattr(curves, "_DRAWS", 40)
    found = figures(quick=True, names=(1, 2))
    assert set(found["regrets"]["even 1"]) == set(ARMS)
    assert found["best existing over all tasks"] in EXISTING
    assert (
        found["pruner_regret_ratio_lower"]
        <= found["pruner_regret_ratio"]
        <= found["pruner_regret_ratio_upper"]
    )
    assert found["pruner_regret_ratio"] >= found["pruner_regret_ratio_one"]
    assert {"1 worker, 20 whole trainings", "16 workers, time of 2.5 whole trainings"} <= set(found)
