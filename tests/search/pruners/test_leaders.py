"""LeadersPruner: what the leaders were at a step decides, in both directions, on every kind of report."""

from __future__ import annotations

import copy
import doctest
import math
import pickle

import optuna
import pytest

import search.pruners.leaders
from evaluators.base import State
from search.budget import Budget
from search.executors.inline import InlineExecutor
from search.loop import Loop
from search.pruners import LeadersPruner
from search.record.ledger import Ledger
from search.testing.trial_toys import tuning_problem
from search.tuning.strategy import Tuning

optuna.logging.set_verbosity(optuna.logging.ERROR)
BOTH = pytest.mark.parametrize("sign", [1.0, -1.0])

LATE = [(0.9, 0.1), (0.8, 0.2), (0.2, 0.5), (0.3, 0.6), (0.1, 0.7)]
"""Values at the first step and at the end: who wins begins badly."""
EARLY = [(0.1, 0.1), (0.2, 0.2), (0.7, 0.5), (0.8, 0.6), (0.9, 0.7)]


def study_of(curves, sign=1.0, **settings):
    study = optuna.create_study(
        direction="minimize" if sign > 0 else "maximize", pruner=LeadersPruner(**settings)
    )
    for first, end in curves:
        trial = study.ask()
        trial.report(sign * first, 1)
        study.tell(trial, sign * end)
    return study


def stops(study, value, step=1):
    trial = study.ask()
    trial.report(value, step)
    return trial.should_prune()


@BOTH
def test_a_late_starter_goes_on_where_late_starters_won(sign):
    study = study_of(LATE, sign, leaders=2, slack=0.0)
    assert not stops(study, sign * 0.9)
    assert stops(study, sign * 0.91)


@BOTH
def test_the_same_value_is_stopped_where_the_best_were_ahead(sign):
    study = study_of(EARLY, sign, leaders=2, slack=0.0)
    assert stops(study, sign * 0.21)
    assert not stops(study, sign * 0.2)


def test_the_slack_is_in_deviations_of_the_complete_trials():
    firsts = [first for first, _ in EARLY]
    mean = sum(firsts) / 5
    deviation = math.sqrt(sum((first - mean) ** 2 for first in firsts) / 5)
    study = study_of(EARLY, leaders=1, slack=0.5)
    assert not stops(study, 0.1 + 0.49 * deviation)
    assert stops(study, 0.1 + 0.51 * deviation)


def test_nothing_is_stopped_before_enough_trials_are_complete_or_have_been_there():
    assert not stops(study_of(EARLY[:4]), 9.0)
    assert stops(study_of(EARLY), 9.0)
    assert not stops(study_of(EARLY), 9.0, step=2)
    assert not stops(study_of(EARLY, min_resource=2), 9.0)
    assert stops(study_of(EARLY[:2], startup_trials=2), 9.0)


def test_stopped_and_failed_trials_teach_nothing():
    study = study_of(EARLY[:4])
    for state in (optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.FAIL):
        trial = study.ask()
        trial.report(0.0, 1)
        study.tell(trial, state=state)
    assert not stops(study, 9.0)


def test_what_is_not_a_number_is_weak_and_never_a_bound():
    assert stops(study_of(EARLY), math.nan)
    assert not stops(study_of(EARLY[:4]), math.nan)
    study = study_of([*EARLY, (math.inf, 0.0)], leaders=1, slack=0.0)
    assert stops(study, 0.11)


def test_a_trial_without_a_report_goes_on():
    assert study_of(EARLY).ask().should_prune() is False


@pytest.mark.parametrize(
    "wrong",
    [{"leaders": 0}, {"slack": -1.0}, {"slack": math.nan}, {"startup_trials": 0}, {"min_resource": 0}],
)
def test_arguments_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LeadersPruner(**wrong)


def test_it_is_copied_and_pickled():
    for copied in (copy.deepcopy(LeadersPruner(leaders=2)), pickle.loads(pickle.dumps(LeadersPruner()))):
        assert isinstance(copied, LeadersPruner)


def test_the_example_holds():
    assert doctest.testmod(search.pruners.leaders).failed == 0


def test_tuning_with_it_stops_trials_once_some_are_complete():
    problem = tuning_problem()
    ledger = Ledger(None, problem.space)
    strategy = Tuning("random", LeadersPruner(slack=0.2))
    Loop(problem, strategy, InlineExecutor(), ledger, Budget(40), seed=1, lag=4, chunk=2).run()
    stopped = [e for _, e in ledger.evaluations() if "LeadersPruner at step" in e.reason]
    assert 5 < len(stopped) < 35
    assert min(e.candidate.id for e in stopped) >= 5
    assert all(e.state is State.PRUNED for e in stopped)
