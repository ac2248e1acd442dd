"""Real Tuners on a real Ray: the study's sampler proposes, its pruner stops, and nothing is left running or
told twice.
"""

from __future__ import annotations

import collections
import doctest
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState
from ray import tune

import search.raytune.scheduler
import search.raytune.searcher
from evaluators.tic.prediction import Prediction
from search.pruners import NonDominationPruner, TICPruner
from search.raytune.scheduler import StudyScheduler
from search.raytune.searcher import StudySearch
from spaces.errors import InputError
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("shared_ray")
optuna.logging.set_verbosity(optuna.logging.ERROR)
COMPLETE, PRUNED, FAIL, RUNNING, WAITING = (
    TrialState[name] for name in ("COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING")
)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")


class Crash(tune.Callback):
    """Ends the driver's loop without a word after so many results, once: the file `armed` says whether it
    still may.
    """

    def __init__(self, armed: Path, after: int) -> None:
        self.armed, self.left = armed, after
        armed.touch()

    def on_trial_result(self, iteration, trials, trial, result, **info):
        self.left -= 1
        if self.left == 0 and self.armed.exists():
            self.armed.unlink()
            raise RuntimeError("the driver is gone")


def tuner(train, search, scheduler, folder, samples, space=None, callbacks=None, failures=0, **config):
    return tune.Tuner(
        tune.with_resources(train, {"cpu": 0.5}),
        param_space=space,
        tune_config=tune.TuneConfig(search_alg=search, scheduler=scheduler, num_samples=samples, **config),
        run_config=tune.RunConfig(
            name="run",
            storage_path=str(folder),
            verbose=0,
            callbacks=callbacks,
            failure_config=tune.FailureConfig(max_failures=failures),
        ),
    )


def states(study):
    return collections.Counter(trial.state for trial in study.trials)


@pytest.mark.slow
def test_a_tuner_follows_the_pruner_of_a_study_in_a_database(tmp_path):
    def train(config):
        x = config["net"]["x"]
        assert config["constant"] == 3 and config["layers"] in ([8], [4, 4])
        for epoch in range(1, 5):
            if x == 0.9:
                raise ValueError("out of memory")
            tune.report({"loss": x + 1 / epoch})

    study = optuna.create_study(
        storage=f"sqlite:///{tmp_path}/study.db",
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(["loss"])
    study.enqueue_trial({"net/x": 0.9})
    for x in (0.1, 0.2, 0.3, 0.8):
        study.enqueue_trial({"net/x": x})
    space = {"net": {"x": tune.uniform(0, 1)}, "layers": tune.choice([[8], [4, 4]]), "constant": 3}
    results = tuner(
        train,
        StudySearch(study),
        StudyScheduler(study),
        tmp_path,
        7,
        space,
        max_concurrent_trials=2,
        reuse_actors=True,
    ).fit()

    assert len(study.trials) == len(results) == 7 and results.num_errors == 1
    failed = [t for t in study.trials if t.state == FAIL]
    assert [t.params["net/x"] for t in failed] == [0.9] and "error" in failed[0].user_attrs["reason"]
    by_name = {result.metrics["trial_id"]: result for result in results if result.error is None}
    for trial in study.trials:
        if trial.state == FAIL:
            continue
        result = by_name[trial.user_attrs["ray"]["trial"]]
        assert (
            result.config["net"]["x"] == trial.params["net/x"]
            and result.metrics["training_iteration"] == trial.last_step
        )
        assert trial.values == [result.metrics["loss"]]
        assert trial.intermediate_values == {
            e: pytest.approx(trial.params["net/x"] + 1 / e) for e in range(1, trial.last_step + 1)
        }
        assert (trial.last_step == 4) or trial.state == PRUNED
    pruned = next(t for t in study.trials if t.params["net/x"] == 0.8)
    assert pruned.state == PRUNED and pruned.last_step < 4
    assert study.best_params["net/x"] == 0.1


def test_intervals_travel_to_the_pruner_and_an_in_memory_study_survives_a_crash(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "0")

    def train(config):
        for epoch in range(1, 5):
            time.sleep(0.1)
            tune.report(Prediction(config["x"] + 1 / epoch, 0.5, 0.001, 0.25).metrics())

    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=0), pruner=TICPruner(startup_trials=2, reduction=2)
    )
    for x in (0.2, 0.1, 0.9, 0.8, 0.05):
        study.enqueue_trial({"x": x})
    search = StudySearch(study, {"x": FloatDistribution(0, 1)}, metric="predicted_loss")
    crash = Crash(tmp_path / "armed", 11)
    with pytest.raises(Exception, match="driver is gone"):
        tuner(
            train,
            search,
            StudyScheduler(study),
            tmp_path,
            6,
            callbacks=[crash],
            max_concurrent_trials=1,
            reuse_actors=True,
        ).fit()
    before = StudySearch.study_of(tmp_path / "run")
    assert 2 <= len(before.trials) <= 5 and RUNNING in states(before)

    restored = tune.Tuner.restore(str(tmp_path / "run"), tune.with_resources(train, {"cpu": 0.5}))
    results = restored.fit()
    held = restored._local_tuner._tune_config
    assert held.scheduler.study is held.search_alg.study and len(held.scheduler.study.trials) == 6
    study = StudySearch.study_of(tmp_path / "run")
    assert len(results) == len(study.trials) == 6
    assert states(study).keys() == {COMPLETE, PRUNED}
    known = {t.number: t for t in before.trials if t.state.is_finished()}
    assert all(
        study.trials[n].datetime_complete == t.datetime_complete and study.trials[n].values == t.values
        for n, t in known.items()
    )
    assert [t.state for t in study.trials if t.params["x"] in (0.9, 0.8)] == [PRUNED, PRUNED]
    assert next(t.state for t in study.trials if t.params["x"] == 0.05) == COMPLETE
    assert all("reason" not in t.user_attrs for t in study.trials)
    assert study.trials[0].user_attrs["tic:4"] == {"bias": 0.5, "error": 0.001, "movement": 0.25}
    assert study.trials[0].values == [pytest.approx(0.2 + 1 / 4 + 0.5)]
    assert all(t.state == COMPLETE or "pruner:fallback" not in t.user_attrs for t in study.trials)
    assert isinstance(study.pruner, TICPruner)


def test_what_ray_had_not_noted_is_enqueued_again_and_nothing_stays_running(tmp_path, monkeypatch):
    storage = f"sqlite:///{tmp_path}/s.db"
    monkeypatch.setenv(
        "TUNE_GLOBAL_CHECKPOINT_S", "100"
    )  # the state of the experiment is written once, as the first trial is added

    def train(config):
        assert config["y"] == 2 * config["x"]
        for epoch in range(1, 4):
            time.sleep(0.05)
            tune.report({"loss": config["x"] + 1 / epoch})

    def suggest(trial):
        return {"y": 2 * trial.suggest_float("x", 0, 1)}

    study = optuna.create_study(
        study_name="s", storage=storage, sampler=optuna.samplers.RandomSampler(seed=1)
    )
    stranger = study.ask()  # of another process: not ours to end
    crash = Crash(tmp_path / "armed", 7)
    search = StudySearch(study, suggest, metric="loss")
    with pytest.raises(Exception, match="driver is gone"):
        tuner(
            train,
            search,
            StudyScheduler(study),
            tmp_path,
            4,
            callbacks=[crash],
            max_concurrent_trials=2,
            reuse_actors=True,
        ).fit()
    before = study.trials
    assert sum(t.state == RUNNING for t in before) >= 2

    results = tune.Tuner.restore(str(tmp_path / "run"), tune.with_resources(train, {"cpu": 0.5})).fit()
    after = optuna.load_study(study_name="s", storage=storage).trials
    assert len(results) == 4 and results.num_errors == 0
    assert [t.number for t in after if t.state == RUNNING] == [stranger.number]
    assert not [t for t in after if t.state == WAITING]
    for old in before:
        assert not old.state.is_finished() or after[old.number].datetime_complete == old.datetime_complete
    done = [t.params["x"] for t in after if t.state == COMPLETE]
    assert len(set(done)) == len(done) >= 4
    assert {t.params["x"] for t in before if t.params} <= set(done)  # what was begun was ended
    assert all("enqueued again" in t.user_attrs["reason"] for t in after if t.state == FAIL)


def test_what_the_whole_experiment_stops_is_told_too(tmp_path):
    class Stop(tune.Stopper):
        def __call__(self, trial_id, result):
            return False

        def stop_all(self):
            return any(t.last_step == 2 for t in study.trials)

    def train(config):
        for _ in range(1000):
            time.sleep(0.1)
            tune.report({"loss": config["rate"], "accuracy": 1.0})

    def suggest(trial):
        trial.suggest_categorical("optimiser", ["sgd"])
        trial.suggest_float("rate", 0, 1)

    study = optuna.create_study(direction="maximize")
    made = tuner(
        train, StudySearch(study, suggest), StudyScheduler(study), tmp_path, 2, metric="accuracy", mode="max"
    )
    made._local_tuner.get_run_config().stop = Stop()
    made.fit()
    assert states(study).keys() <= {PRUNED, FAIL} and PRUNED in states(study)
    assert all("stopped with the experiment" in t.user_attrs["reason"] for t in study.trials)
    assert all(t.intermediate_values for t in study.trials if t.state == PRUNED)


def test_a_trial_that_is_tried_again_is_one_trial_and_a_diverging_one_is_pruned(tmp_path):
    def train(config):
        marks = tmp_path / str(config["x"])
        if config["x"] == 2 and not marks.exists():
            marks.touch()
            raise ValueError("a lost worker")
        for epoch in range(1, 4):
            tune.report({"loss": float("nan") if config["x"] == 1 and epoch == 3 else 1 / epoch})

    study = optuna.create_study(
        sampler=optuna.samplers.GridSampler({"x": [1, 2]}), pruner=optuna.pruners.NopPruner()
    )
    search = StudySearch(study, {"x": IntDistribution(1, 2)}, metric="loss")
    results = tuner(
        train, search, StudyScheduler(study), tmp_path, 5, failures=1, max_concurrent_trials=1
    ).fit()
    assert len(results) == 2  # the grid has no more, whatever num_samples says
    assert {t.params["x"]: t.state for t in study.trials} == {1: PRUNED, 2: COMPLETE}
    diverged, again = sorted(study.trials, key=lambda t: t.params["x"])
    assert "diverged" in diverged.user_attrs["reason"]
    assert (
        again.intermediate_values == {1: 1.0, 2: 0.5, 3: pytest.approx(1 / 3)}
        and "reason" not in again.user_attrs
    )


def test_several_objectives_are_pruned_by_their_fronts(tmp_path):
    def train(config):
        for _ in range(3):
            tune.report({"error": config["x"] + config["worse"], "accuracy": config["x"] - config["worse"]})

    study = optuna.create_study(directions=["minimize", "maximize"])
    for x, worse in ((0.1, 0.0), (0.5, 0.0), (0.3, 0.9), (0.9, 0.0)):
        study.enqueue_trial({"x": x, "worse": worse})
    search = StudySearch(study, metric=["error", "accuracy"])
    scheduler = StudyScheduler(study, NonDominationPruner(startup_trials=2, reduction=3))
    space = {"x": tune.uniform(0, 1), "worse": tune.uniform(0, 1)}
    tuner(train, search, scheduler, tmp_path, 4, space, max_concurrent_trials=1, reuse_actors=True).fit()
    assert [t.state for t in study.trials] == [COMPLETE, COMPLETE, PRUNED, COMPLETE]
    assert (
        study.trials[3].values == [0.9, 0.9]
        and study.trials[2].last_step is None
        and len(study.best_trials) == 3
    )


@pytest.mark.slow
@pytest.mark.parametrize(("how", "number"), [("resume_errored", 2), ("restart_errored", 1)])
def test_another_attempt_at_a_failed_trial_is_a_new_trial_of_the_same_parameters(how, number, tmp_path):
    def train(config):
        tune.report({"loss": config["x"]})
        if (tmp_path / "ill").exists():
            raise ValueError("no memory")
        tune.report({"loss": config["x"]})

    (tmp_path / "ill").touch()
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/s.db")
    tuner(
        train,
        StudySearch(study, metric="loss"),
        StudyScheduler(study),
        tmp_path,
        number,
        {"x": tune.uniform(0, 1)},
    ).fit()
    assert states(study) == {FAIL: number}
    (tmp_path / "ill").unlink()
    tune.Tuner.restore(str(tmp_path / "run"), tune.with_resources(train, {"cpu": 0.5}), **{how: True}).fit()
    assert states(study) == {FAIL: number, COMPLETE: number}
    again = {t.user_attrs["again"]: t.params for t in study.trials[number:]}
    assert again == {t.number: t.params for t in study.trials[:number]}
    assert all(t.last_step == 2 for t in study.trials[number:])


DRIVER = """
import sys, time, optuna, ray
from ray import tune
from search.pruners import TICPruner
from search.raytune.scheduler import StudyScheduler, StudySearch

folder = sys.argv[1]
optuna.logging.set_verbosity(optuna.logging.ERROR)
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)

def train(config):
    for epoch in range(1, 6):
        time.sleep(0.2)
        tune.report({"loss": config["x"] + 1 / epoch, "tic_bias": 0.1, "tic_error": 0.001})

if len(sys.argv) > 2:
    made = tune.Tuner.restore(folder + "/run", train)
else:
    sampler, pruner = optuna.samplers.TPESampler(seed=0), TICPruner(startup_trials=2)
    study = optuna.create_study(
        study_name="s", storage=f"sqlite:///{folder}/s.db", sampler=sampler, pruner=pruner
    )
    search = StudySearch(study, metric="loss")
    config = tune.TuneConfig(
        search_alg=search, scheduler=StudyScheduler(study), num_samples=6, reuse_actors=True
    )
    run = tune.RunConfig(name="run", storage_path=folder, verbose=0)
    made = tune.Tuner(train, param_space={"x": tune.uniform(0, 1)}, tune_config=config, run_config=run)
made.fit()
"""


@pytest.mark.slow
def test_a_killed_driver_is_restored(tmp_path):
    (tmp_path / "driver.py").write_text(DRIVER)
    root = str(Path(__file__).parents[3])
    environment = os.environ | {"PYTHONPATH": root, "TUNE_GLOBAL_CHECKPOINT_S": "1"}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, str(tmp_path / "driver.py"), str(tmp_path)]
    first = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    url = f"sqlite:///{tmp_path}/s.db"

    def in_the_middle():
        if not (tmp_path / "s.db").exists() or not list((tmp_path / "run").glob("experiment_state*")):
            return False
        trials = optuna.load_study(study_name="s", storage=url).trials
        return sum(t.state.is_finished() for t in trials) >= 2 and any(t.state == RUNNING for t in trials)

    until(in_the_middle, "two trials that are finished", pause=0.3)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    before = optuna.load_study(study_name="s", storage=url).trials
    assert any(t.state == RUNNING for t in before)
    done = subprocess.run([*command, "restore"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    after = optuna.load_study(study_name="s", storage=url).trials
    assert not [t for t in after if t.state in (RUNNING, WAITING)]
    assert sum(t.state in (COMPLETE, PRUNED) for t in after) >= 6
    told = [t.params["x"] for t in after if t.state in (COMPLETE, PRUNED)]
    assert len(set(told)) == len(told) and {t.params["x"] for t in before} <= set(told)
    assert all(
        after[t.number].datetime_complete == t.datetime_complete for t in before if t.state.is_finished()
    )


def test_mistakes_are_one_line(tmp_path):
    study, two = optuna.create_study(), optuna.create_study(directions=["minimize", "minimize"])
    with pytest.raises(InputError, match="one name for each"):
        StudySearch(two, metric="loss")
    with pytest.raises(InputError, match=r"TuneConfig.mode 'max'"):
        StudySearch(study, metric="loss").set_search_properties(None, "max", {})
    with pytest.raises(InputError, match=r"TuneConfig.metric 'accuracy'"):
        StudySearch(study, metric="loss").set_search_properties("accuracy", "min", {})
    with pytest.raises(InputError, match="create_study"):
        StudyScheduler(study, NonDominationPruner())
    with pytest.raises(InputError, match="no in-memory study"):
        StudySearch.study_of(tmp_path)

    def train(config):
        tune.report({"loss": 1.0})

    space = {"x": tune.uniform(0, 1)}
    for match, searcher, scheduler, given in (
        ("nothing to search", StudySearch(study, metric="loss"), StudyScheduler(study), None),
        ("it is not known which result counts", StudySearch(study), StudyScheduler(study), space),
        ("the same study", StudySearch(study, metric="loss"), StudyScheduler(two), space),
        ("the same study", None, StudyScheduler(study), space),
    ):
        with pytest.raises(InputError, match=match) as caught:
            tuner(train, searcher, scheduler, tmp_path / match[:9], 1, given).fit()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("module", [search.raytune.scheduler, search.raytune.searcher])
def test_the_examples_of_the_docstrings_run(module):
    found = doctest.testmod(module)
    assert found.attempted > 3 and found.failed == 0


@pytest.mark.slow
def test_the_guide_runs(tmp_path):
    text = (Path(__file__).parents[3] / "docs" / "tuning-pieces.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    given = {"folder": str(tmp_path), "__name__": "guide"}
    for i, code in enumerate(blocks[:2]):
        exec(compile(code, f"docs/tuning-pieces.md: block {i + 1}", "exec"), given)
    assert PRUNED in states(given["study"]) and COMPLETE in states(given["study"])
    assert set(given["study"].best_trial.user_attrs["tic:1"]) == {"bias", "error", "movement"}
    assert PRUNED in states(given["both"]) and COMPLETE in states(given["both"])
    for i, code in enumerate(blocks[2:]):
        exec(compile(code, f"docs/tuning-pieces.md: block {i + 3}", "exec"), given)
    assert len(given["study"].trials) == 6 and states(given["study"]).keys() <= {COMPLETE, PRUNED}
    assert all("pruner:fallback" not in trial.user_attrs for trial in given["study"].trials)
