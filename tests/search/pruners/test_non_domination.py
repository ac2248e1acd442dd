"""Pruning where there are several objectives: the rule on arrays, and on real studies in every storage."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.storages import InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from search.pruners import NonDominationPruner, to_stop

optuna.logging.set_verbosity(optuna.logging.ERROR)


def fronts(points):
    """Ranks by the definition: peel off what nobody in the rest dominates."""
    ranks, left, rank = np.full(len(points), -1), list(range(len(points))), 0
    while left:
        front = [
            i
            for i in left
            if not any((points[j] <= points[i]).all() and (points[j] < points[i]).any() for j in left)
        ]
        ranks[front] = rank
        left = [i for i in left if i not in front]
        rank += 1
    return ranks


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=20),
    st.sampled_from([2, 3, 4.0]),
)
def test_the_rule_is_the_definition(points, reduction):
    points = np.array(points, dtype=float)
    ranks = fronts(points)
    before = (ranks[1:] < ranks[0]).sum()
    assert to_stop(points[0], points[1:], reduction) is bool(before >= np.ceil(len(points) / reduction))
    if ranks[0] == 0:
        assert not to_stop(points[0], points[1:], reduction)


def test_what_is_not_a_number_is_not_stopped_and_beats_nobody():
    assert not to_stop(np.array([0.0, np.nan]), np.zeros((6, 2)))
    assert not to_stop(np.array([0.0, np.nan]), np.empty((0, 2)))
    assert not to_stop(np.array([0.0, 0.0]), np.empty((0, 2)))
    assert not to_stop(np.array([5.0, 5.0]), np.full((4, 2), np.nan))
    assert to_stop(np.array([5.0, 5.0]), np.zeros((2, 2)))


def test_those_who_were_stopped_before_still_count():
    others = np.array([[0.0, 0.0], [1.0, 1.0]])
    assert to_stop(np.array([2.0, 2.0]), others, 3)
    assert not to_stop(np.array([2.0, 2.0]), others, 3, reached=9)


def make(directions=("minimize", "maximize"), storage=None):
    return optuna.create_study(
        directions=directions, storage=storage, sampler=optuna.samplers.RandomSampler(seed=0)
    )


@pytest.mark.parametrize("kind", ["memory", "sqlite", "journal"])
@pytest.mark.parametrize("jobs", [1, 3])
def test_a_real_study_keeps_its_front(kind, jobs, tmp_path):
    storages = {
        "memory": InMemoryStorage,
        "sqlite": lambda: RDBStorage(f"sqlite:///{tmp_path}/study.db"),
        "journal": lambda: JournalStorage(JournalFileBackend(f"{tmp_path}/study.log")),
    }
    study, pruner = make(storage=storages[kind]()), NonDominationPruner(startup_trials=4)

    def objective(trial):
        x, worse = trial.suggest_float("x", 0, 1), trial.suggest_float("worse", 0, 1)
        for step in range(6):
            pruner.report(trial, (x + worse, x - worse), step)
            if pruner.should_prune(trial):
                raise optuna.TrialPruned
        return x + worse, x - worse

    study.optimize(objective, n_trials=30, n_jobs=jobs)
    values = np.array(
        [(t.params["x"] + t.params["worse"], t.params["worse"] - t.params["x"]) for t in study.trials]
    )
    ranks = fronts(values)
    stopped = np.array([t.state == TrialState.PRUNED for t in study.trials])
    assert 5 <= stopped.sum() <= 25
    assert not stopped[ranks == 0].any()
    assert {t.number for t in study.best_trials} == set(np.flatnonzero(ranks == 0))
    assert all(t.state == TrialState.PRUNED or "objectives:5" in t.user_attrs for t in study.trials)


def reported(study, pruner, values, step=1):
    trial = study.ask()
    pruner.report(trial, values, step)
    return trial


@pytest.mark.parametrize(
    ("directions", "worse", "other"),
    [
        (("minimize", "minimize"), (1.0, 1.0), (1.0, -1.0)),
        (("maximize", "maximize"), (-1.0, -1.0), (1.0, -1.0)),
        (("minimize", "maximize"), (1.0, -1.0), (1.0, 1.0)),
    ],
)
def test_directions_are_respected(directions, worse, other):
    study, pruner = make(directions), NonDominationPruner(startup_trials=0)
    assert not pruner.should_prune(reported(study, pruner, (0.0, 0.0)))
    assert pruner.should_prune(reported(study, pruner, worse))
    assert not pruner.should_prune(reported(study, pruner, other))


def test_when_it_begins_to_judge():
    study, pruner = make(), NonDominationPruner(startup_trials=2, min_resource=2)
    assert not pruner.should_prune(study.ask())
    for step, said in ((2, False), (2, False), (1, False), (2, True)):
        trial = reported(study, pruner, (float(trial_number(study)), 0.0), step)
        assert pruner.should_prune(trial) is said
    assert not pruner.should_prune(reported(study, pruner, (float("nan"), 0.0), 2))


def trial_number(study):
    return len(study.trials)


def test_those_who_were_stopped_before_still_count_in_a_study():
    study, pruner = make(), NonDominationPruner(startup_trials=0, reduction=3, min_resource=2)
    for i in range(6):
        reported(study, pruner, (float(i), 0.0), step=3 if i < 2 else 2)
    assert not pruner.should_prune(
        reported(study, pruner, (9.0, 0.0), step=3)
    )  # seven came into the rung, three places
    reported(study, pruner, (2.0, 0.0), step=3)
    assert pruner.should_prune(
        reported(study, pruner, (9.0, 0.0), step=3)
    )  # nine, three places, three in front


def test_a_frozen_trial_is_judged_alike_and_failed_ones_are_no_rivals():
    study, pruner = make(), NonDominationPruner(startup_trials=0)
    best = reported(study, pruner, (0.0, 0.0))
    weak = reported(study, pruner, (1.0, -1.0))
    weak.set_user_attr("objectives:total", 3)  # somebody else's attribute
    assert pruner.judge(study, study.trials[1]) and pruner.judge(study, weak)
    study.tell(best, state=TrialState.FAIL)
    assert not pruner.judge(study, study.trials[1])


def test_it_serves_a_study_that_is_driven_by_hand():
    study, pruner = make(), NonDominationPruner(startup_trials=0)
    reported(study, pruner, (0.0, 0.0))
    weak = reported(study, pruner, (1.0, -1.0))
    assert pruner.should_prune(weak)
    study.tell(weak, state=TrialState.PRUNED)
    assert study.trials[1].state == TrialState.PRUNED and study.trials[1].values is None


@pytest.mark.parametrize("arguments", [{"reduction": 0.5}, {"min_resource": 0}, {"startup_trials": -1}])
def test_wrong_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        NonDominationPruner(**arguments)


def test_wrong_reports_are_refused():
    study, pruner = make(), NonDominationPruner()
    with pytest.raises(ValueError, match="2 objectives"):
        pruner.report(study.ask(), (1.0,), 1)
    with pytest.raises(ValueError, match="step"):
        pruner.report(study.ask(), (1.0, 1.0), -1)
