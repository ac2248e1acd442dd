"""When intervals decide, when they do not, and when the fallback does."""

from __future__ import annotations

import logging

import optuna
import pytest
from optuna.trial import TrialState

from evaluators.tic.prediction import Prediction, attribute
from search.pruners import TICPruner
from search.pruners.rungs import Rungs, places
from search.pruners.tic import FALLBACK

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Stop(optuna.pruners.BasePruner):
    """A fallback whose word is known."""

    def prune(self, study, trial):
        return True


def study_of(direction="minimize", **settings):
    return optuna.create_study(
        direction=direction, pruner=TICPruner(**{"startup_trials": 0, "fallback": Stop()} | settings)
    )


def add(study, value, step=1, error=0.0, movement=0.0, state=TrialState.COMPLETE):
    trial = study.ask()
    Prediction(value, 0.0, error, movement).report(trial, step)
    study.tell(trial, value if state == TrialState.COMPLETE else None, state=state)


def stops(study, value, step=1, error=0.0, movement=0.0):
    trial = study.ask()
    Prediction(value, 0.0, error, movement).report(trial, step)
    said = trial.should_prune()
    study.tell(trial, state=TrialState.FAIL)  # so that it is nobody's rival
    return said


@pytest.mark.parametrize("sign", [1, -1])
def test_intervals_that_overlap_keep_a_trial(sign):
    study = study_of("minimize" if sign == 1 else "maximize", confidence=0.9)
    add(study, sign * 1.0, error=0.1)
    for gap, said in ((0.3, False), (0.3289, False), (0.3291, True)):  # 1.6449 * (.1 + .1)
        assert stops(study, sign * (1.0 + gap), error=0.1) is said, gap
    assert not stops(study, sign * 2.0, error=10.0)
    assert not stops(study, sign * 0.5, error=0.0)


def test_more_confidence_asks_for_a_larger_gap():
    said = []
    for confidence in (0.0, 0.5, 0.9, 0.999):
        study = study_of(confidence=confidence)
        add(study, 1.0, error=0.1)
        said.append([stops(study, 1.0 + gap, error=0.1) for gap in (0.05, 0.2, 0.4, 1.0)])
    assert said == [
        [True] * 4,
        [False, True, True, True],
        [False, False, True, True],
        [False, False, False, True],
    ]


def test_one_in_three_goes_on():
    study = study_of(reduction=3)
    for value in range(8):
        add(study, float(value))  # with the judged one nine, so three places
    assert [stops(study, value) for value in (1.5, 2.0, 2.5)] == [False, False, True]


def test_a_lucky_value_with_a_huge_error_keeps_nobody():
    study = study_of(reduction=2)
    for value in (0.0, 1.0, 1.1):
        add(study, value, error=0.01)
    add(study, 0.5, error=1e6)  # second best by its value: five trials, three places
    assert stops(study, 5.0)
    assert not stops(study, 1.05, error=0.01)


def test_the_survivors_of_a_rung_are_not_cut_again_at_every_step():
    study = study_of(reduction=3, min_resource=1)
    for value in range(9):
        trial = study.ask()
        for step in (1, 2) if value < 3 else (1,):  # three of nine survive the first rung
            Prediction(float(value), 0.0, 0.0, 0.0).report(trial, step)
        study.tell(trial, state=TrialState.PRUNED)
    assert not stops(study, 2.5, step=2)  # ten came, four places, and only three are better
    assert stops(study, 3.5, step=1)
    for value in (3.1, 3.2):
        add(study, value, step=2)
    assert stops(study, 3.5, step=2)


def test_a_new_rung_cuts_again_among_those_who_came_to_it():
    study = study_of(reduction=3)
    for value in range(9):
        add(
            study, float(value), step=3 if value < 3 else 2
        )  # ten in the first rung, four in the second: two places
    assert [stops(study, value, step=3) for value in (0.5, 1.5)] == [False, True]


def test_an_undecided_trial_is_looked_at_again_within_the_rung():
    study = study_of()
    trial = study.ask()
    for step in (3, 4):
        Prediction(1.0, 0.0, 0.5 / step**3, 0.0).report(trial, step)
    study.tell(trial, 1.0)
    weak = study.ask()
    Prediction(1.05, 0.0, 0.5 / 3**3, 0.0).report(weak, 3)
    assert not weak.should_prune()
    Prediction(1.05, 0.0, 0.5 / 4**3, 0.0).report(weak, 4)
    assert weak.should_prune()


def test_failed_trials_are_nobodys_rivals():
    study = study_of()
    add(study, 0.0, state=TrialState.FAIL)
    assert not stops(study, 1.0)
    add(study, 0.0, state=TrialState.PRUNED)
    assert stops(study, 1.0)


def test_outside_the_regime_the_fallback_decides_and_says_so_once(caplog):
    study = study_of(max_movement=0.5)
    trial = study.ask()
    with caplog.at_level(logging.INFO):
        for step, movement, said in ((1, 0.4, False), (2, 0.6, True), (3, 0.7, True)):
            Prediction(1.0, 0.0, 0.1, movement).report(trial, step)
            assert trial.should_prune() is said
    assert study.trials[0].user_attrs[FALLBACK] == "step 2: movement 0.6 above 0.5"
    assert len(caplog.messages) == 1 and "trial 0" in caplog.messages[0]


def test_rivals_outside_the_regime_count_but_do_not_beat():
    study = study_of(max_movement=0.5)
    for _ in range(3):
        add(study, 0.0, movement=0.9)
    assert not stops(study, 1.0, movement=0.1)
    add(study, 0.0, movement=0.1)
    assert not stops(study, 1.0, movement=0.1)  # five came, two places
    add(study, 0.0, movement=0.1)
    assert stops(study, 1.0, movement=0.1)


@pytest.mark.parametrize(
    "told",
    [
        None,
        3,
        {},
        {"error": None},
        {"error": "x"},
        {"error": -1.0},
        {"error": float("nan")},
        {"error": float("inf")},
    ],
)
def test_a_damaged_interval_is_none(told):
    study = study_of()
    add(study, 0.0)
    trial = study.ask()
    if told is not None:
        trial.set_user_attr(attribute(1), told)
    trial.report(-1.0, 1)
    assert trial.should_prune()  # the fallback's word: by its interval it would stay
    assert "no standard error" in study.trials[-1].user_attrs[FALLBACK]


def test_without_a_gauge_nothing_is_believed_where_one_is_asked_for():
    study = study_of(max_movement=1.0)
    assert stops(study, 0.0, movement=None)
    assert "no movement" in study.trials[-1].user_attrs[FALLBACK]
    assert not stops(study_of(), 0.0, movement=None)


def test_rungs_begin_where_they_should():
    rungs = Rungs(2, 3)
    assert [rungs.start(step) for step in (2, 5, 6, 17, 18, 54)] == [2, 2, 6, 6, 18, 54]
    assert [places(n, 3) for n in (1, 3, 4, 9)] == [1, 1, 2, 3]
    assert (places(21, 1.4), places(11, 1.1)) == (15, 10)  # 21 / 1.4 is 15.000000000000002
