"""The door: what a person types, and what comes of it."""

import importlib.util
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
import ray
import torch
import yaml

import secateur.cli
from run_search import main
from search.config.settings import Settings
from search.record.ledger import Ledger
from tests.waiting import patience, slowness, until

ROOT = Path(__file__).parents[1]
TINY = str(ROOT / "configs" / "tiny.yaml")
QUICK = ["--training.epochs", "1", "--data.init_args.train_samples", "200"]  # to a base model
SMALL = [
    "--search.budget.evaluations",
    "8",
    "--finish.members",
    "1",
    "--finish.epochs",
    "1",
    "--finish.onnx",
    "false",
    "--finish.latency_seconds",
    "0",
    "--study.view",
    "false",
]


@pytest.fixture
def door(tmp_path, capsys):
    """Go through the door in this process; return code, standard output, standard error."""

    def go(*words):
        capsys.readouterr()
        code = main(
            [
                *words,
                *(
                    ["--runs", str(tmp_path / "runs")]
                    if any(word.endswith(".yaml") for word in words)
                    else []
                ),
            ]
        )
        output = capsys.readouterr()
        return code, output.out, output.err

    return go


@pytest.mark.parametrize("config", sorted(path.name for path in (ROOT / "configs").glob("*.yaml")))
def test_every_configuration_is_sound(config, cifar_folder):
    words = (
        ["--data.data.folder", str(cifar_folder)] if config.startswith("cifar10") else []
    )  # the others' data are made or installed
    settings = Settings.parse([str(ROOT / "configs" / config), *words])
    for key in ("data", "evaluators", "strategy", "training", "finish", "ray", "study", "criteria"):
        settings.make(key)


@pytest.mark.parametrize(
    "config", ["digits_lineage", "digits_budget", "cells_digits", "digits_channels", "quickstart"]
)
def test_what_a_configuration_does_not_say_is_as_the_class_has_it(config):
    """The default evaluators once lent their batch size to whatever stood in their place."""
    settings = Settings.parse([str(ROOT / "configs" / f"{config}.yaml")])
    given = yaml.safe_load((ROOT / "configs" / f"{config}.yaml").read_text()).get("evaluators", [])
    made = settings.make("evaluators")
    assert [type(evaluator).__name__ for evaluator in made] == [
        *(
            spec["class_path"].rpartition(".")[2]
            for spec in given or [{"class_path": "Cost"}, {"class_path": "Quality"}]
        )
    ]
    for evaluator, spec in zip(made, given, strict=False):
        said = spec.get("init_args", {})
        for name, parameter in inspect.signature(type(evaluator)).parameters.items():
            found = vars(getattr(evaluator, "training", evaluator)).get(name, parameter.default)
            assert name in said or found == parameter.default or parameter.default is None, (name, found)


@pytest.mark.parametrize("config", ["cifar10_resnet20", "cifar10_resnet56"])
def test_data_that_are_not_there_are_one_line(config, door, tmp_path):
    code, out, err = door(
        str(ROOT / "configs" / f"{config}.yaml"), "--data.data.folder", str(tmp_path / "nowhere")
    )
    assert code == 2 and not out and err.count("\n") == 1
    assert err.startswith("error: data ") and "nowhere: no file data_batch_1.bin; expected" in err
    assert not (tmp_path / "runs").exists()


def test_a_run_begins_with_the_candidates_of_another(door, tmp_path):
    first = tmp_path / "runs" / "tiny"
    assert door(TINY, *QUICK, *SMALL)[0] == 0
    code, _, err = door(
        TINY,
        *QUICK,
        *SMALL,
        "--name",
        "second",
        "--seed",
        "5",
        "--warm_start",
        str(first),
        "--executor",
        "inline",
    )
    assert code == 0, err
    ledgers = [Ledger.reader(folder / "ledger.db") for folder in (first, tmp_path / "runs" / "second")]
    before, after = ([candidate.genome.tobytes() for candidate in ledger.candidates()] for ledger in ledgers)
    assert set(after[:7]) <= set(before)
    code, _, err = door(TINY, *QUICK, *SMALL, "--name", "third", "--warm_start", str(tmp_path / "nowhere"))
    assert (
        code == 2 and err.count("\n") == 1 and "nowhere" in err and not (tmp_path / "runs" / "third").exists()
    )


def test_a_run_shows_its_table_and_the_same_line_again_says_that_it_is_complete(door, tmp_path):
    code, out, err = door(TINY, *QUICK, *SMALL)
    assert code == 0 and "base model" in out and "candidate" in out
    assert "searching in" in err and "ended by: evaluations; 8 evaluations" in err and "report.html" in err
    began = time.monotonic()
    code, again, err = door(TINY, *QUICK, *SMALL)
    assert code == 0 and err.startswith("complete: 8 evaluations") and again == out
    assert time.monotonic() - began < 60 * slowness() and not ray.is_initialized()

    code, out, err = door(TINY, *QUICK, *SMALL[2:], "--search.budget.evaluations", "12")
    assert code == 0 and "going on after 8 evaluations" in err and "12 evaluations" in err

    # what stands in the directory runs again as it is, from anywhere
    kept = tmp_path / "runs" / "tiny" / "config.yaml"
    assert yaml.safe_load(kept.read_text())["search"]["budget"] == {
        "evaluations": 12,
        "seconds": None,
        "stall": None,
        "epochs": None,
        "target": None,
    }
    assert main([str(kept)]) == 0

    for words in (["report", str(kept.parent)], ["export", str(kept.parent), "--finish.members", "2"]):
        code, out, err = door(*words)
        assert code == 0 and str(kept.parent) in out
    assert len(list((kept.parent / "models").glob("*/"))) >= 2


def test_print_config_is_complete_and_runs_again(door, tmp_path):
    code, out, _ = door(TINY, "--print_config")
    assert code == 0
    printed = yaml.safe_load(out)
    assert printed["strategy"] == {
        "class_path": "search.Evolution",
        "init_args": printed["strategy"]["init_args"],
    }
    assert printed["search"]["order"] == "strict" and printed["ray"]["cpus_per_task"] == 1
    (tmp_path / "printed.yaml").write_text(out)
    assert Settings.parse([str(tmp_path / "printed.yaml")]).budget == Settings.parse([TINY]).budget


def test_help_for_everything(door):
    for words in (
        ["--help"],
        ["--strategy.help", "search.Evolution"],
        ["--data.help", "evaluators.data.Digits"],
    ):
        code, out, _ = door(*words)
        assert code == 0 and len(out) > 200
    assert "population" in door("--strategy.help", "search.Evolution")[1]


def test_plan_runs_nothing(door, tmp_path):
    code, out, err = door("plan", TINY, "--constraints", '["macs <= 50%"]')
    assert code == 0 and err == ""
    for words in (
        "blocks.1.conv1",
        "head.weight[0]",
        "an output of the model",
        "smallest reachable",
        "within reach",
        "ms a candidate",
    ):
        assert words in out
    assert not (tmp_path / "runs").exists()


def test_classes_beside_the_configuration_and_a_checkpoint(door, tmp_path, monkeypatch):
    """docs/your-model.md, with what it says put into a folder of its own."""
    for name in ("your_model.py", "your_model.yaml"):
        (tmp_path / name).write_text((ROOT / "examples" / name).read_text())
    spec = importlib.util.spec_from_file_location("your_model", tmp_path / "your_model.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "your_model", module)
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    torch.save(module.trained(module.Waves(), epochs=2).state_dict(), tmp_path / "your_weights.pt")
    words = ["--executor", "inline", "--checkpoint", "your_weights.pt", *SMALL]
    code, out, err = door(str(tmp_path / "your_model.yaml"), *words)
    assert code == 0, err
    assert "training" not in err and "candidate" in out
    recipe = json.loads(next((tmp_path / "runs" / "your_model" / "models").glob("*/recipe.json")).read_text())
    assert recipe["model"]["class_path"] == "your_model.WaveNet"


def test_a_metric_of_a_whole_split_and_a_tuning_of_ones_own(door, tmp_path):
    for name in ("own_metric.py", "own_metric.yaml"):
        (tmp_path / name).write_text((ROOT / "examples" / name).read_text())
    words = ["--executor", "inline", *SMALL, "--training.epochs", "2"]
    code, out, err = door(str(tmp_path / "own_metric.yaml"), *words)
    assert code == 0, err
    assert "test f1" in out
    recipe = json.loads(next((tmp_path / "runs" / "own_metric" / "models").glob("*/recipe.json")).read_text())
    assert recipe["tuning"] == "own_metric.tune" and 0 < recipe["metrics"]["test_f1"] <= 1


@pytest.mark.slow
def test_the_example_in_python_and_by_the_door_on_ray(tmp_path):
    for name in ("your_model.py", "your_model.yaml"):
        (tmp_path / name).write_text((ROOT / "examples" / name).read_text())
    subprocess.run([sys.executable, "your_model.py"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    door = [
        sys.executable,
        str(ROOT / "run_search.py"),
        "your_model.yaml",
        "--search.budget.evaluations",
        "40",
        "--finish.members",
        "1",
    ]
    done = subprocess.run(door, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "candidate" in done.stdout and (tmp_path / "runs" / "your_model" / "report.html").exists()


SLOW_PARTS = """
import time
from evaluators import Evaluator, Report


class Slow(Evaluator):
    metrics = ("slow",)

    def evaluate(self, model, candidate):
        time.sleep(0.1)
        yield Report({"slow": 1.0})
"""


def test_ctrl_c_in_a_real_process_saves_and_the_same_line_goes_on(door, tmp_path):
    (tmp_path / "slow_parts.py").write_text(SLOW_PARTS)
    config = yaml.safe_load(Path(TINY).read_text()) | {
        "runs": "runs",
        "study": {"view": False},
        "finish": {"members": 0},
    }
    config["training"], config["data"]["init_args"] = {"epochs": 1}, {"train_samples": 200}
    config["evaluators"] = [
        {"class_path": path} for path in ("evaluators.Cost", "evaluators.Quality", "slow_parts.Slow")
    ]
    config["search"]["budget"] = {"evaluations": 500}
    (tmp_path / "slow.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, str(ROOT / "run_search.py"), "slow.yaml"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    ledger = tmp_path / "runs" / "tiny" / "ledger.db"
    try:
        until(lambda: ledger.exists() and _evaluations(ledger) >= 3, "three evaluations")
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=patience())
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert (
        "finishing what is in flight" in err and "the same command goes on" in err and "Traceback" not in err
    )
    done = _evaluations(ledger)
    assert 3 <= done < 500 and (ledger.parent / "report.html").exists()
    code, _, err = door(str(tmp_path / "slow.yaml"), "--search.budget.evaluations", str(done + 3))
    assert code == 0 and f"going on after {done} evaluations" in err, err


def _evaluations(path):
    try:
        ledger = Ledger.reader(path)
    except ValueError:  # it is being made
        return 0
    count = ledger.counts()["evaluations"]
    ledger.close()
    return count


def test_dashboard_shows_the_study(door, tmp_path, monkeypatch):
    door(TINY, *QUICK, *SMALL[:-2])
    called = []
    monkeypatch.setattr(
        secateur.cli.subprocess,
        "run",
        lambda command, **_: called.append(command) or subprocess.CompletedProcess(command, 0),
    )
    run = tmp_path / "runs" / "tiny"
    assert main(["dashboard", str(run), "--port", "8081"]) == 0
    assert called[-1][-3:] == [str(run / "study.log"), "--port", "8081"]
    (run / "study.log").unlink()
    main(["dashboard", str(run)])  # a study that was deleted is written again
    assert called[-2][2:] == ["-m", "search.study", str(run)]
    (run / "study.log").touch()
    monkeypatch.setattr(secateur.cli.subprocess, "run", Mock(side_effect=KeyboardInterrupt))
    assert main(["dashboard", str(run)]) == 0, "Ctrl-C is how it is ended"


def test_what_fails_too_often_ends_with_its_reason(door, tmp_path):
    (tmp_path / "unlucky_parts.py").write_text(
        SLOW_PARTS.replace("time.sleep(0.1)", "assert candidate.id < 0, 'bad luck'")
    )
    config = yaml.safe_load(Path(TINY).read_text()) | {"study": {"view": False}}
    config["training"], config["data"]["init_args"] = {"epochs": 1}, {"train_samples": 200}
    config["evaluators"] = [
        {"class_path": path} for path in ("evaluators.Cost", "evaluators.Quality", "unlucky_parts.Slow")
    ]
    config["search"]["budget"] = {"evaluations": 100}
    (tmp_path / "unlucky.yaml").write_text(yaml.safe_dump(config))
    code, _, err = door(str(tmp_path / "unlucky.yaml"))
    assert code == 1 and "error: search: failures: " in err and "AssertionError: bad luck" in err


CHOICES = '''
from torch import nn
from spaces import Choice, ChoiceSpace, Integer


class Nets(ChoiceSpace):
    """Perceptrons of several depths and widths, each trained from scratch."""

    depth = Integer(1, 2)
    width = Choice([4, 8, 16])

    def build_from(self, depth, width):
        layers = [nn.Flatten(), nn.Linear(64, width), nn.ReLU()]
        for _ in range(depth - 1):
            layers += [nn.Linear(width, width), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(width, 10))
'''


def test_a_space_of_choices_needs_no_model(door, tmp_path):
    (tmp_path / "choice_nets.py").write_text(CHOICES)
    config = {
        "name": "choices",
        "data": {"class_path": "evaluators.data.Digits", "init_args": {"train_samples": 100}},
        "space": {"class_path": "choice_nets.Nets"},
        "evaluators": [
            {"class_path": "evaluators.Cost"},
            {"class_path": "evaluators.Training", "init_args": {"epochs": 1}},
        ],
        "objectives": ["max accuracy", "params"],
        "constraints": ["params <= 1000"],
        "strategy": {"class_path": "search.Evolution", "init_args": {"population": 4}},
        "search": {"lag": 2, "chunk": 2, "budget": {"evaluations": 100}},
        "executor": "inline",
        "finish": {"members": 1, "epochs": 1, "latency_repeats": 2, "latency_seconds": 0.0},
    }
    path = tmp_path / "choices.yaml"
    path.write_text(yaml.safe_dump(config))
    code, out, err = door("plan", str(path))
    assert code == 0 and "depth" in out and "params <= 1000: within reach" in out
    code, out, err = door(str(path))
    assert code == 0, err
    assert "exhausted" in err and "candidate" in out and "base model" not in out
    path.write_text(yaml.safe_dump(config | {"constraints": ["params <= 50%"]}))
    code, out, err = door(str(path))
    assert code == 2 and "no base model" in err


def test_a_choice_that_is_extended_in_its_file_keeps_the_results(door, tmp_path, monkeypatch):
    """docs/custom-spaces.md, "Extending a choice"."""
    config = {
        "name": "first",
        "data": {"class_path": "evaluators.data.Digits", "init_args": {"train_samples": 60}},
        "space": {"class_path": "growing_nets.Nets"},
        "evaluators": [
            {"class_path": "evaluators.Cost"},
            {"class_path": "evaluators.Training", "init_args": {"epochs": 1}},
        ],
        "objectives": ["max accuracy", "params"],
        "strategy": {"class_path": "search.Evolution", "init_args": {"population": 4}},
        "search": {"lag": 2, "chunk": 2, "budget": {"evaluations": 6}},
        "executor": "inline",
        "finish": {"members": 0},
        "study": {"view": False},
    }
    (tmp_path / "growing_nets.py").write_text(CHOICES)
    path = tmp_path / "growing.yaml"
    path.write_text(yaml.safe_dump(config))
    first = tmp_path / "runs" / "first"
    assert door(str(path))[0] == 0
    (tmp_path / "growing_nets.py").write_text(CHOICES.replace("[4, 8, 16]", "[2, 4, 8, 16, 32]"))
    monkeypatch.delitem(sys.modules, "growing_nets")
    code, _, err = door(str(path))
    assert code == 2 and "belongs to another space" in err, "the old run stays what it is"
    words = [str(path), "--name", "wider", "--warm_start", str(first), "--search.budget.evaluations"]
    code, _, err = door(*words, "8")
    assert (
        code == 0
        and f"{first}: 6 of its results mean the same here" in err
        and f"6 of 8 results came from {first}" in err
    ), err
    shutil.rmtree(first)
    code, _, err = door(*words, "10")
    assert code == 0 and f"6 of 10 results came from {first}" in err, err
    settings = [
        "--evaluators",
        '[{"class_path": "evaluators.Cost"}, {"class_path": "evaluators.Training", "init_args": {"epochs": '
        "2}}]",
    ]
    code, _, err = door(
        *words[:1], "--name", "third", "--warm_start", str(tmp_path / "runs" / "wider"), *settings
    )
    assert (
        code == 0
        and "evaluated anew: evaluators.1.epochs (was 1, is 2)" in err
        and "results came from" not in err
    )
