"""A hyper-parameter search through the door: killed and resumed, on Ray and off, with its table, report, view
and winner.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import ray
import torch
import yaml

from evaluators.assessment import assess
from evaluators.base import State
from evaluators.data import Digits
from evaluators.training.fitting import Fitting
from run_search import main
from search.config.settings import Settings
from search.finish.recipe import load
from search.record.ledger import Ledger
from tests.waiting import patience, until

ROOT = Path(__file__).parents[3]
LONG = ["--evaluators", json.dumps([{"class_path": "evaluators.TrialTraining", "init_args": {"epochs": 40}}])]
LONG += ["--strategy.init_args.monitor", "loss"]


def trial_space(parameters: dict[str, object]) -> str:
    """What a command line says of a space."""
    return json.dumps({"class_path": "spaces.TrialSpace", "init_args": {"parameters": parameters}})


def outcomes(run: Path):
    ledger = Ledger.reader(run / "ledger.db")
    try:
        return {e.candidate.id: (e.state, e.reason, e.metrics) for _, e in ledger.evaluations()}
    finally:
        ledger.close()


def study_of(run: Path) -> optuna.Study:
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(run / "study.log"))
    )
    return optuna.load_study(study_name=run.name, storage=storage)


def test_the_table_the_report_and_the_winner(
    tuning_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(tuning_config), "--runs", str(tmp_path / "runs"), "--executor", "inline"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    run = tmp_path / "runs" / "small"
    found = outcomes(run)
    complete = {id: metrics["loss"] for id, (state, _, metrics) in found.items() if state is State.COMPLETE}
    winner = min(complete, key=lambda id: (complete[id], id))
    stopped = sum(state is State.PRUNED for state, *_ in found.values())
    assert stopped and f"{len(found)} trials: {len(complete)} complete, {stopped} pruned" in out
    assert f"trial {winner} on the test split: loss" in out and "learning_rate" in out and "width" in out
    first = next(line for line in out.splitlines() if line.split() and line.split()[0].isdigit())
    assert first.split()[0] == str(winner), "the best trial comes first"
    assert "1 on the front" not in err and "training the base model" not in err

    report = (run / "report.html").read_text()
    for heading in (
        "The best trials",
        "Learning curves",
        "Parameters",
        "What matters",
        "Stopped trials",
        "MedianPruner",
    ):
        assert heading in report
    assert "What stays of each layer" not in report and "hypervolume" not in report
    assert (run / "front.csv").read_text().splitlines()[0].endswith("model.width,training.learning_rate")

    folders = list((run / "models").glob("*/"))
    assert [folder.name for folder in folders] == [str(winner)]
    recipe = json.loads((folders[0] / "recipe.json").read_text())
    data = Digits(train_samples=120)
    tested = assess(load(folders[0]), data, data.batches("test", 256))
    assert (
        recipe["metrics"]["test_loss"] == pytest.approx(tested["loss"])
        and recipe["metrics"]["loss"] == complete[winner]
    )
    searched = assess(load(folders[0]), data, data.batches("search", 256))
    assert searched["loss"] == pytest.approx(complete[winner]), (
        "the exported weights are those of the best epoch"
    )

    study = study_of(run)
    assert len(study.trials) == len(found) and all(trial.state.is_finished() for trial in study.trials)
    assert (
        study.best_trial.user_attrs["candidate"] == winner and len(study.best_trial.intermediate_values) == 6
    )

    before = (run / "report.html").stat().st_mtime_ns
    assert main(words) == 0
    again, err = capsys.readouterr()
    assert (
        again == out
        and err.startswith("complete: 12 evaluations")
        and (run / "report.html").stat().st_mtime_ns == before
    )


def test_without_its_checkpoint_the_winner_is_trained_again_to_the_same_weights(
    tuning_config: Path, tmp_path: Path
) -> None:
    words = [
        str(tuning_config),
        "--runs",
        str(tmp_path / "runs"),
        "--executor",
        "inline",
        "--study.view",
        "false",
    ]
    assert main([*words, "--search.budget.evaluations", "6"]) == 0
    run = tmp_path / "runs" / "small"
    (folder,) = (run / "models").glob("*/")
    expected = load(folder).state_dict()
    for path in (*folder.iterdir(), *(run / "state" / "trials").iterdir()):
        path.unlink()
    assert main(["export", str(run)]) == 0
    for name, values in load(folder).state_dict().items():
        assert torch.equal(values, expected[name])


@pytest.mark.slow
def test_a_killed_search_goes_on_from_its_checkpoints(
    tuning_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = [str(tuning_config), "--executor", "inline", "--finish.members", "0", *LONG]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run_search.py"), *common, "--runs", str(tmp_path / "killed")],
        cwd=tmp_path,
    )
    run = tmp_path / "killed" / "small"
    try:

        def in_the_middle() -> bool:
            trials = run / "state" / "trials"
            done = outcomes(run).keys() if (run / "ledger.db").exists() and trials.exists() else set()
            return len(done) >= 3 and bool({int(path.stem) for path in trials.glob("*.pt")} - done)

        until(in_the_middle, "three trials and the beginning of another", pause=0.01)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    done = outcomes(run)
    assert 3 <= len(done) < 12
    begun = {int(path.stem) for path in (run / "state" / "trials").glob("*.pt")} - done.keys()
    kept = sum(
        len(torch.load(run / "state" / "trials" / f"{id}.pt", weights_only=True)["state"]["reports"])
        for id in begun
    )

    trained = []
    epoch = Fitting.epoch
    monkeypatch.setattr(Fitting, "epoch", lambda self: trained.append(1) or epoch(self))
    assert main([*common, "--runs", str(tmp_path / "whole")]) == 0
    all_at_once, whole = len(trained), outcomes(tmp_path / "whole" / "small")
    trained.clear()
    assert main([*common, "--runs", str(tmp_path / "killed")]) == 0
    assert outcomes(run) == whole and {id: found for id, found in whole.items() if id in done} == done
    ledger = Ledger.reader(run / "ledger.db")
    paid = sum(min(len(ledger.reports(id)), 40) for id in done)
    ledger.close()
    assert len(trained) == all_at_once - paid - kept, "an epoch was trained twice"
    study = study_of(run)
    assert len(study.trials) == 12 and all(trial.state.is_finished() for trial in study.trials)


@pytest.mark.slow
def test_on_ray_the_search_is_the_same_and_an_interrupted_one_goes_on(
    tuning_config: Path, tmp_path: Path
) -> None:
    assert (
        main(
            [
                str(tuning_config),
                "--runs",
                str(tmp_path / "inline"),
                "--executor",
                "inline",
                "--study.view",
                "false",
            ]
        )
        == 0
    )
    common = [str(tuning_config), "--runs", str(tmp_path / "ray"), "--ray.workers", "2"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run_search.py"), *common],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = tmp_path / "ray" / "small"
    try:
        until(lambda: (run / "ledger.db").exists() and len(outcomes(run)) >= 2, "two trials")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=patience())
    finally:
        process.kill()
    assert process.returncode in (0, 130) and "Traceback" not in err, err
    assert all(trial.state.is_finished() for trial in study_of(run).trials)
    try:
        assert main(common) == 0
    finally:
        ray.shutdown()
    assert outcomes(run) == outcomes(tmp_path / "inline" / "small")


@pytest.mark.slow
def test_a_driver_killed_on_ray_leaves_trials_that_are_finished_and_none_that_run(
    tuning_config: Path, tmp_path: Path
) -> None:
    common = [str(tuning_config), "--finish.members", "0", *LONG]
    on_ray = [*common, "--runs", str(tmp_path / "ray"), "--ray.workers", "2"]
    process = subprocess.Popen([sys.executable, str(ROOT / "run_search.py"), *on_ray], cwd=tmp_path)
    run = tmp_path / "ray" / "small"
    try:

        def three() -> bool:
            with contextlib.suppress(ValueError):  # it is being made
                return process.poll() is not None or len(outcomes(run)) >= 3
            return False

        until(three, "three trials", pause=0.02)
    finally:
        process.kill()  # SIGKILL
        process.wait()
    done = outcomes(run)
    assert 3 <= len(done) < 12
    try:
        assert main(on_ray) == 0
    finally:
        ray.shutdown()
    found = outcomes(run)
    assert {id: found[id] for id in done} == done, "a trial that was finished is another one now"
    assert main([*common, "--runs", str(tmp_path / "inline"), "--executor", "inline"]) == 0
    assert found == outcomes(tmp_path / "inline" / "small") and len(found) == 12
    trials = study_of(run).trials
    assert len(trials) == 12 and all(trial.state.is_finished() for trial in trials)
    assert {trial.user_attrs["candidate"] for trial in trials} == found.keys()


def test_the_configuration_that_ships_is_sound_and_plans_in_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = str(ROOT / "configs" / "digits_tuning.yaml")
    settings = Settings.parse([config])
    assert settings.make("strategy").monitor and not settings.accepts("space", "example")
    assert main(["plan", config]) == 0
    out = capsys.readouterr().out
    for words in (
        "7 parameters",
        "training.learning_rate",
        "0.0001 to 0.3, log",
        "adamw, sgd",
        "60 evaluations",
        "if no trial is stopped",
    ):
        assert words in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--strategy.init_args.sampler", "tpee"],
            "strategy.sampler (search.Tuning): expected 'tpe' or 'random'",
        ),
        (["--strategy.init_args.monitor", "score"], "strategy: monitor: the evaluator reports no 'score'"),
        (["--objectives", '["loss", "error"]'], "strategy: pruner MedianPruner cannot serve 2 objectives"),
        (
            ["--space", trial_space({"training.rate": {"low": 0, "high": 1}})],
            "nothing takes the parameter 'rate'",
        ),
        (["--space", trial_space({"model.size": {"low": 1, "high": 2}})], "takes no 'size'"),
        (["--constraints", '["loss <= 50%"]'], "TrialSpace has no base model to take a share of"),
    ],
)
def test_a_mistake_is_one_line(
    tuning_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    code = main([str(tuning_config), "--runs", str(tmp_path / "runs"), "--executor", "inline", *words])
    err = capsys.readouterr().err
    assert code == 2 and err.count("\n") == 1 and message in err, err
    assert not list(tmp_path.rglob("ledger.db")), (
        "who mends the mistake would be told that the run is another's"
    )


def test_another_space_is_another_run(
    tuning_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        str(tuning_config),
        "--runs",
        str(tmp_path / "runs"),
        "--executor",
        "inline",
        "--study.view",
        "false",
        "--finish.members",
        "0",
    ]
    assert main([*words, "--search.budget.evaluations", "2"]) == 0
    capsys.readouterr()
    assert main([*words, "--space", trial_space({"model.width": {"low": 8, "high": 64}})]) == 2
    assert "belongs to another" in capsys.readouterr().err


def test_a_function_of_the_users_own_asks_for_parameters(
    tuning_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_suggestions.py").write_text(
        "def suggest(trial):\n"
        "    optimiser = trial.suggest_categorical('training.optimiser', ['adamw', 'sgd'])\n"
        "    trial.suggest_float('training.learning_rate', 1e-3, 0.1, log=True)\n"
        "    if optimiser == 'adamw':\n"
        "        trial.suggest_float('training.weight_decay', 1e-4, 1.0, log=True)\n"
    )
    space = {"class_path": "spaces.TrialSpace", "init_args": {"suggest": "my_suggestions.suggest"}}
    tuning_config.write_text(yaml.safe_dump(yaml.safe_load(tuning_config.read_text()) | {"space": space}))
    words = ["--executor", "inline", "--runs", str(tmp_path / "runs"), "--search.budget.evaluations", "8"]
    assert main([str(tuning_config), *words]) == 0
    out = capsys.readouterr().out
    assert "weight_decay" in out and "optimiser" in out
    for trial in study_of(tmp_path / "runs" / "small").trials:
        assert ("training.weight_decay" in trial.params) == (trial.params["training.optimiser"] == "adamw")


def test_successive_halving_by_configuration(
    tuning_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strategy = {
        "class_path": "search.SuccessiveHalving",
        "init_args": {"n": 4, "brackets": 1, "minimum": 1, "eta": 2},
    }
    words = ["--executor", "inline", "--runs", str(tmp_path / "runs"), "--search.budget.evaluations", "50"]
    assert main([str(tuning_config), *words, "--strategy", json.dumps(strategy)]) == 0
    out, err = capsys.readouterr()
    assert "1 complete, 7 paused" in out and "on the test split: loss" in out and "ended by: exhausted" in err
    found = outcomes(tmp_path / "runs" / "small")
    assert len(list((tmp_path / "runs" / "small" / "models").glob("*/"))) == 1 and len(found) == 8
    assert "paused" in (tmp_path / "runs" / "small" / "report.html").read_text()
