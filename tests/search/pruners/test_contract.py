"""What Optuna asks of its own pruners, asked of ours, on real studies.

Optuna 5 publishes contract suites for samplers, storages and importance, none for pruners
(`optuna.testing.pruners` holds a stub). So the checks below are those that its tests make of every pruner of
its own, written anew as behaviour.
"""

from __future__ import annotations

import copy
import doctest
import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest
from optuna.storages import InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

import search.pruners.non_domination
import search.pruners.tic
from evaluators.tic.prediction import Prediction, attribute
from search.pruners import TICPruner
from search.pruners.tic import FALLBACK, NOT_A_NUMBER

optuna.logging.set_verbosity(optuna.logging.ERROR)
BOTH = pytest.mark.parametrize("direction", ["minimize", "maximize"])
KINDS = ("memory", "sqlite", "journal")


def storage(kind, folder):
    if kind == "memory":
        return InMemoryStorage()
    return (
        RDBStorage(f"sqlite:///{folder}/study.db")
        if kind == "sqlite"
        else JournalStorage(JournalFileBackend(f"{folder}/study.log"))
    )


@pytest.fixture(params=KINDS)
def anywhere(request, tmp_path):
    return storage(request.param, tmp_path)


def report(trial, value, step, error=0.0, movement=None):
    Prediction(train_loss=value, bias=0.0, error=error, movement=movement).report(trial, step)


def curves(study, *values, step=1, error=0.0):
    """Finished trials that reported these values at a step."""
    for value in values:
        trial = study.ask()
        report(trial, value, step, error)
        study.tell(trial, value)


def make(direction="minimize", **settings):
    return optuna.create_study(direction=direction, pruner=TICPruner(**{"startup_trials": 0} | settings))


def test_the_first_trial_and_one_without_a_report_go_on():
    study = make()
    trial = study.ask()
    assert trial.should_prune() is False
    report(trial, 1.0, 1)
    assert trial.should_prune() is False


@BOTH
def test_the_worse_one_is_pruned_and_the_better_one_not(direction):
    study = make(direction)
    worse, better = (2.0, 0.5) if direction == "minimize" else (0.5, 2.0)
    curves(study, 1.0)
    for value, stops in ((worse, True), (better, False), (1.0, False)):
        trial = study.ask()
        report(trial, value, 1)
        assert trial.should_prune() is stops
        assert trial.should_prune() is stops  # asked twice, answered alike


@BOTH
def test_with_and_without_intervals_it_stops_the_weak_half_of_a_study(direction, anywhere):
    study = optuna.create_study(
        direction=direction,
        storage=anywhere,
        sampler=optuna.samplers.RandomSampler(seed=1),
        pruner=TICPruner(startup_trials=3),
    )

    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        for step in range(5):
            report(trial, x, step) if trial.number % 2 else trial.report(x, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return x

    study.optimize(objective, n_trials=24)
    by = {
        state: [t.params["x"] for t in study.trials if t.state == state]
        for state in (TrialState.PRUNED, TrialState.COMPLETE)
    }
    assert len(by[TrialState.PRUNED]) >= 6 and len(by[TrialState.COMPLETE]) >= 5
    values = [t.params["x"] for t in study.trials]
    best = min(values) if direction == "minimize" else max(values)
    assert best in by[TrialState.COMPLETE]
    told = [t.number for t in study.trials if FALLBACK in t.user_attrs]
    assert told == [t.number for t in study.trials if t.number % 2 == 0]


def test_parallel_trials_share_a_study(anywhere):
    study = optuna.create_study(
        storage=anywhere, sampler=optuna.samplers.RandomSampler(seed=0), pruner=TICPruner(startup_trials=2)
    )

    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        for step in range(1, 6):
            report(trial, x + 1 / step, step, error=0.01)
            if trial.should_prune():
                raise optuna.TrialPruned
        return x

    study.optimize(objective, n_trials=24, n_jobs=4)
    states = [t.state for t in study.trials]
    assert len(states) == 24 and set(states) == {TrialState.COMPLETE, TrialState.PRUNED}
    best = min(study.trials, key=lambda t: t.params["x"])
    assert best.state == TrialState.COMPLETE
    assert states.count(TrialState.PRUNED) >= 8


def test_many_threads_may_ask_one_pruner(tmp_path):
    study = optuna.create_study(storage=storage("memory", tmp_path), pruner=TICPruner(startup_trials=0))
    curves(study, 1.0, 2.0, 3.0)
    trials = [study.ask() for _ in range(8)]
    for i, trial in enumerate(trials):
        report(trial, float(i), 1)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda t: t.should_prune(), trials)) == [t.should_prune() for t in trials]


@pytest.mark.parametrize("first", [1, 3])
def test_nothing_is_judged_before_the_least_resource(first):
    study = make(min_resource=first)
    for step in range(first + 1):
        curves(study, 0.0, step=step)
    for step in range(first + 1):
        trial = study.ask()
        report(trial, 1.0, step)
        assert trial.should_prune() is (step >= first)


@pytest.mark.parametrize(
    ("startup", "said"), [(0, [False, True, True, True]), (3, [False, False, False, True])]
)
def test_nothing_is_judged_before_enough_trials_have_come(startup, said):
    study = make(startup_trials=startup, reduction=10)
    for value, stops in enumerate(said):
        trial = study.ask()
        report(trial, float(value), 1)
        assert trial.should_prune() is stops, value
        study.tell(trial, float(value))


@BOTH
def test_what_is_not_a_number_is_pruned_like_a_weak_trial_and_that_is_said(direction, caplog):
    study = make(direction, startup_trials=2, min_resource=2, fallback=optuna.pruners.NopPruner())
    for tell in (lambda t, step: t.report(math.nan, step), lambda t, step: report(t, math.nan, step)):
        trial = study.ask()
        tell(trial, 5)
        assert trial.should_prune() is False, "not before others have come as far"
        study.tell(trial, state=TrialState.FAIL)
    curves(study, 1.0, 2.0, step=2)
    for tell in (lambda t, step: t.report(math.nan, step), lambda t, step: report(t, math.nan, step)):
        trial = study.ask()
        tell(trial, 1)
        assert trial.should_prune() is False, "not before the least resource"
        tell(trial, 3)
        assert trial.should_prune() is True and trial.should_prune() is True
        assert study.trials[-1].user_attrs[NOT_A_NUMBER] == "step 3"
        study.tell(trial, state=TrialState.PRUNED)
    assert len([r for r in caplog.records if "not a number" in r.getMessage()]) == 2


@BOTH
def test_rivals_that_are_not_numbers_or_infinite_beat_nobody(direction):
    study = make(direction)
    bad = float("inf") if direction == "minimize" else float("-inf")
    for value in (float("nan"), bad, float("nan")):
        trial = study.ask()
        report(trial, value, 1)
        study.tell(trial, state=TrialState.PRUNED)
    trial = study.ask()
    report(trial, 1.0, 1)
    assert not trial.should_prune()
    study.tell(trial, 1.0)
    curves(study, 2.0)
    trial = study.ask()
    report(trial, bad, 1)
    assert trial.should_prune()


def test_steps_may_come_in_any_order_and_with_gaps():
    study = make()
    curves(study, 1.0, step=7)
    trial = study.ask()
    report(trial, 5.0, 9)  # nobody else is here
    assert not trial.should_prune()
    report(trial, 5.0, 7)  # the last step is still 9
    assert not trial.should_prune()
    other = study.ask()
    report(other, 5.0, 7)
    assert other.should_prune()


def test_a_study_that_was_loaded_again_goes_on(tmp_path):
    for kind in ("sqlite", "journal"):
        study = optuna.create_study(
            storage=storage(kind, tmp_path), study_name="s", pruner=TICPruner(startup_trials=0)
        )
        curves(study, 1.0)
        again = optuna.load_study(
            study_name="s", storage=storage(kind, tmp_path), pruner=TICPruner(startup_trials=0)
        )
        trial = again.ask()
        report(trial, 2.0, 1)
        assert trial.should_prune()


def test_pruners_and_studies_pickle_and_copy():
    study = make()
    curves(study, 1.0)
    for twin in (pickle.loads(pickle.dumps(study)), copy.deepcopy(study)):
        trial = twin.ask()
        report(trial, 2.0, 1)
        assert trial.should_prune()


def test_a_finished_trial_can_be_judged_and_stays_as_it_is():
    study = optuna.create_study(pruner=TICPruner())
    study.add_trial(create_trial(state=TrialState.COMPLETE, value=1.0, intermediate_values={1: 1.0}))
    frozen = study.trials[0]
    assert study.pruner.prune(study, frozen) is False
    assert study.trials[0].user_attrs == {}


@pytest.mark.parametrize(
    "wrapped",
    [
        optuna.pruners.NopPruner(),
        optuna.pruners.MedianPruner(n_startup_trials=2),
        optuna.pruners.PercentilePruner(50.0, n_startup_trials=2),
        optuna.pruners.SuccessiveHalvingPruner(),
        optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9),
        optuna.pruners.ThresholdPruner(upper=0.7),
        optuna.pruners.PatientPruner(optuna.pruners.MedianPruner(n_startup_trials=2), patience=1),
        optuna.pruners.WilcoxonPruner(),
    ],
    ids=lambda pruner: type(pruner).__name__,
)
def test_without_intervals_every_pruner_decides_as_it_does_alone(wrapped):
    def run(pruner):
        study = optuna.create_study(
            study_name="twin", sampler=optuna.samplers.RandomSampler(seed=3), pruner=pruner
        )

        def objective(trial):
            x = trial.suggest_float("x", 0, 1)
            for step in range(1, 10):
                trial.report(x + (trial.number * step) % 3 / 10, step)
                if trial.should_prune():
                    raise optuna.TrialPruned
            return x

        study.optimize(objective, n_trials=15)
        return [(t.state, t.last_step) for t in study.trials]

    assert run(TICPruner(fallback=copy.deepcopy(wrapped))) == run(wrapped)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"reduction": 1}, "reduction"),
        ({"reduction": float("nan")}, "reduction"),
        ({"confidence": 1.0}, "confidence"),
        ({"confidence": -0.1}, "confidence"),
        ({"min_resource": 0}, "min_resource"),
        ({"startup_trials": -1}, "startup_trials"),
        ({"max_movement": -1.0}, "max_movement"),
        ({"fallback": "median"}, "fallback"),
    ],
)
def test_wrong_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        TICPruner(**arguments)


def test_the_attribute_is_that_of_the_contract():
    assert attribute(3) == "tic:3"


@pytest.mark.parametrize("module", [search.pruners.tic, search.pruners.non_domination])
def test_the_examples_of_the_docstrings_run(module):
    found = doctest.testmod(module)
    assert found.attempted > 5 and found.failed == 0
