"""A coevolution through the door: its table, report and models, resumed, interrupted, killed, planned, and
refused in one line.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
import yaml

from evaluators.assessment import assess
from run_search import main
from search.config.settings import Settings
from search.finish.recipe import load
from search.record.ledger import Ledger
from tests.waiting import patience, until

ROOT = Path(__file__).parents[3]
CELLS, STEPS = 4, 5
TOTAL = CELLS * (STEPS + 1)
CONFIG: dict[str, Any] = {
    "name": "cells",
    "seed": 3,
    "executor": "inline",
    "data": {
        "class_path": "evaluators.data.Reconstruction",
        "init_args": {
            "data": {"class_path": "evaluators.data.Digits", "init_args": {"train_samples": 120}},
            "loss": "mse",
            "unit": True,
        },
    },
    "model": {
        "class_path": "spaces.Pair",
        "init_args": {
            "encoder": {"class_path": "spaces.models.Perceptron", "init_args": {"widths": [64, 12, 6]}},
            "decoder": {"class_path": "spaces.models.Perceptron", "init_args": {"widths": [6, 12, 64]}},
        },
    },
    "space": {"class_path": "spaces.PairSpace"},
    "evaluators": [
        {"class_path": "evaluators.Cost"},
        {"class_path": "evaluators.PairTraining", "init_args": {"batches": 3, "learning_rate": 1e-2}},
    ],
    "objectives": ["loss", "params"],
    "strategy": {
        "class_path": "search.Coevolution",
        "init_args": {
            "topology": {"class_path": "search.coevolution.Ring", "init_args": {"cells": CELLS}},
            "steps": STEPS,
            "schedule": {"class_path": "operators.schedules.Fixed", "init_args": {"p": 0.5}},
            "pruning": [{"class_path": "operators.mutation.RandomPruning", "init_args": {"amount": 0.2}}],
        },
    },
    "search": {"budget": {"evaluations": None}},
    "study": {"view": False},
    "finish": {"members": 1, "epochs": 1, "onnx": False, "latency_seconds": 0.0},
}
Door = Callable[..., tuple[int, str, str]]
Row = tuple[bytes, tuple[int, ...], str, dict[str, float]]


@pytest.fixture
def door(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Door:
    """Write a configuration and go through the door with it; code, standard output, standard error."""

    def go(
        config: dict[str, Any], *words: str, runs: str = "runs", command: tuple[str, ...] = ()
    ) -> tuple[int, str, str]:
        path = write(tmp_path, config)
        capsys.readouterr()
        code = main([*command, str(path), "--runs", str(tmp_path / runs), *words])
        output = capsys.readouterr()
        return code, output.out, output.err

    return go


def write(folder: Path, config: dict[str, Any]) -> Path:
    path = folder / f"{config['name']}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def changed(*place: str, **values: Any) -> dict[str, Any]:
    """The small configuration with other values somewhere inside."""
    config = deepcopy(CONFIG)
    part = config
    for key in place:
        part = part[int(key)] if isinstance(part, list) else part[key]
    part.update(values)
    return config


def rows(run: Path) -> dict[int, Row]:
    """What the ledger holds of every step."""
    ledger = Ledger.reader(run / "ledger.db")
    try:
        return {
            e.candidate.id: (
                e.candidate.genome.tobytes(),
                e.candidate.parents,
                e.candidate.operator,
                dict(e.metrics),
            )
            for _, e in ledger.evaluations()
        }
    finally:
        ledger.close()


def count(run: Path) -> int:
    try:
        return len(rows(run))
    except ValueError:  # it is being made
        return 0


def test_a_run_a_complete_one_and_one_that_goes_on(door: Door, tmp_path: Path) -> None:
    code, out, err = door(CONFIG)
    run = tmp_path / "runs" / "cells"
    assert code == 0, err
    assert f"ended by: steps; {TOTAL} evaluations" in err and "candidate" in out
    whole = rows(run)
    assert sorted(whole) == list(range(TOTAL))

    report = (run / "report.html").read_text()
    for heading in (
        "Reconstructions",
        "The cells over time",
        "What is alive",
        "Which cells meet",
        "The front",
    ):
        assert f"<h2>{heading}</h2>" in report, heading
    assert "until all cells had done their steps" in report

    (folder,) = (run / "models").glob("*/")
    recipe, data = (
        json.loads((folder / "recipe.json").read_text()),
        Settings.parse([str(tmp_path / "cells.yaml")]).make("data"),
    )
    model = load(folder)
    assert recipe["metrics"]["test_loss"] == pytest.approx(
        assess(model, data, data.batches("test", 256))["loss"]
    )
    params = sum(parameter.numel() for parameter in model.parameters())
    assert params == whole[int(folder.name)][3]["params"]

    code, again, err = door(CONFIG)
    assert code == 0 and err.startswith(f"complete: {TOTAL} evaluations") and again == out

    code, _, err = door(CONFIG, "--search.budget.evaluations", "10", "--finish.members", "0", runs="parts")
    parts = tmp_path / "parts" / "cells"
    assert code == 0 and "ended by: evaluations; 10 evaluations" in err and len(rows(parts)) == 10
    code, _, err = door(CONFIG, "--search.budget.evaluations", "1000", "--finish.members", "0", runs="parts")
    assert code == 0 and "going on after 10 evaluations" in err and rows(parts) == whole


UNLUCKY = """
from spaces.models import Perceptron


class Unlucky(Perceptron):
    def forward(self, x):
        if self.training:
            raise RuntimeError("out of luck")
        return super().forward(x)
"""


def test_a_step_that_fails_ends_the_run_with_its_reason_and_a_report(door: Door, tmp_path: Path) -> None:
    """It fails in training: what can be seen before is seen before."""
    (tmp_path / "unlucky_nets.py").write_text(UNLUCKY)
    config = changed(
        "model",
        "init_args",
        encoder={"class_path": "unlucky_nets.Unlucky", "init_args": {"widths": [64, 12, 6]}},
    )
    code, _, err = door(config)
    assert (
        code == 1
        and "failures: cell " in err
        and "RuntimeError: out of luck" in err
        and "Traceback" not in err
    )
    assert (tmp_path / "runs" / "cells" / "report.html").exists()
    code, _, err = door(config, command=("plan",))
    assert code == 2 and err.count("\n") == 1 and "a step of a cell fails: RuntimeError: out of luck" in err


PART = "evaluators.PairTraining"
PERCEPTRON = "spaces.models.Perceptron"


def topology(name: str, **settings: Any) -> dict[str, Any]:
    return changed(
        "strategy", "init_args", topology={"class_path": f"search.coevolution.{name}", "init_args": settings}
    )


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            changed("strategy", "init_args", tournamnet=3),
            ["strategy (search.Coevolution): unknown key 'tournamnet'", "did you mean 'tournament'"],
        ),
        (changed("evaluators", "1", init_args={"batch": 3}), ["unknown key 'batch'", "did you mean"]),
        (
            changed(
                "model", "init_args", decoder={"class_path": PERCEPTRON, "init_args": {"widths": [5, 12, 64]}}
            ),
            ["the decoder does not take what the encoder gives, (2, 6)", "in_features=5"],
        ),
        (
            changed(
                "model", "init_args", decoder={"class_path": PERCEPTRON, "init_args": {"widths": [6, 12, 60]}}
            ),
            ["a pair cannot be measured", "outputs (360, 60) do not fit the targets (360, 1, 8, 8)"],
        ),
        (
            topology("Edges", cells=5, edges=[[0, 1], [3, 4]]),
            ["topology Edges: not connected: no path leads from cell 0 to 2, 3, 4"],
        ),
        (
            topology("Edges", cells=3, edges=[[0, 1], [1, 7]]),
            ["topology Edges: edge [1, 7]; expected two cells out of 0 to 2"],
        ),
        (topology("RandomRegular", cells=5, degree=3), ["5 cells of degree 3", "even product"]),
        (
            changed(
                "strategy",
                "init_args",
                schedule={"class_path": "operators.schedules.Increase", "init_args": {"p": 1.5}},
            ),
            ["schedule Increase: p 1.5; expected a probability of 0 to 1"],
        ),
        (
            changed(
                "strategy",
                "init_args",
                pruning=[{"class_path": "operators.mutation.RandomPruning", "init_args": {"amount": -1}}],
            ),
            ["RandomPruning: amount -1", "expected a share of 0 to 1"],
        ),
        (changed("strategy", "init_args", steps=0), ["strategy: steps 0; expected at least 1"]),
        (
            changed(evaluators=[{"class_path": "evaluators.Cost"}, {"class_path": "evaluators.Quality"}]),
            ["evaluators: none of them trains pairs", PART],
        ),
        (
            changed(space={"class_path": "spaces.ChannelSpace"}),
            ["space: ChannelSpace; Coevolution needs a spaces.PairSpace"],
        ),
        (
            changed(model={"class_path": PERCEPTRON, "init_args": {"widths": [64, 8, 64]}}),
            ["space: Perceptron is no pair; expected children 'encoder' and 'decoder'"],
        ),
        (
            changed(
                "evaluators",
                "1",
                init_args={"corruption": {"class_path": "evaluators.pairs.corruption.Variational"}},
            ),
            ["Variational of a Pair; expected a spaces.VariationalPair"],
        ),
        (changed(objectives=["loss", "score"]), ["objectives: 'score': no evaluator computes 'score'"]),
    ],
)
def test_a_mistake_is_one_line_and_nothing_starts(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], words: list[str]
) -> None:
    monkeypatch.setattr(
        "search.coevolution.loop.CellLoop.run", lambda self: pytest.fail("a worker was started")
    )
    code, out, err = door(config | {"executor": "ray"})
    assert code == 2 and out == "", err
    assert err.startswith("error: ") and err.count("\n") == 1, err
    assert all(word in err for word in words), err
    assert not ray.is_initialized() and not list(tmp_path.rglob("ledger.db")), (
        "who mends the mistake would meet a run of another's"
    )


def test_another_topology_is_another_run(door: Door) -> None:
    assert door(CONFIG, "--finish.members", "0", "--search.budget.evaluations", "6")[0] == 0
    code, _, err = door(topology("Complete", cells=CELLS), "--finish.members", "0")
    assert code == 2 and "belongs to another" in err and err.count("\n") == 1


def longer(steps: int, batches: int) -> dict[str, Any]:
    """A configuration of more and longer steps, so that there is a middle."""
    config = changed("strategy", "init_args", steps=steps)
    config["evaluators"][1]["init_args"]["batches"] = batches
    return config | {"finish": {"members": 0}}


def begun(
    config: dict[str, Any], folder: Path, least: int, *words: str
) -> tuple[subprocess.Popen[str], Path]:
    """A process of its own that has done so many steps."""
    command = [
        sys.executable,
        str(ROOT / "run_search.py"),
        str(write(folder, config)),
        "--runs",
        "stopped",
        *words,
    ]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    run = folder / "stopped" / "cells"
    until(lambda: process.poll() is not None or count(run) >= least, f"{least} steps", pause=0.02)
    return process, run


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_line_gives_what_an_undisturbed_run_gives(
    door: Door, tmp_path: Path
) -> None:
    config = longer(steps=14, batches=20)
    process, run = begun(config, tmp_path, 4)
    try:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=patience())
    finally:
        process.kill()
    done = rows(run)
    assert process.returncode == 130 and "the same command goes on" in err and "Traceback" not in err, err
    assert 4 <= len(done) < CELLS * 15 and (run / "report.html").exists()
    code, _, err = door(config, runs="stopped")
    assert code == 0 and f"going on after {len(done)} evaluations" in err
    assert door(config, runs="whole")[0] == 0
    whole = rows(tmp_path / "whole" / "cells")
    assert rows(run) == whole and all(whole[id] == row for id, row in done.items())
    fronts = [(tmp_path / runs / "cells" / "front.csv").read_text() for runs in ("stopped", "whole")]
    assert fronts[0] == fronts[1]


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the workers
    yield
    torch.set_num_threads(before)
    ray.shutdown()


@pytest.mark.slow
def test_a_driver_killed_on_ray_leaves_a_run_that_goes_on(
    door: Door, tmp_path: Path, one_thread: None
) -> None:
    config = longer(steps=30, batches=40) | {"executor": "ray", "ray": {"workers": 2}}
    process, run = begun(config, tmp_path, 8)
    process.kill()  # SIGKILL
    process.wait()
    done = rows(run)
    assert 8 <= len(done) < CELLS * 31
    code, _, err = door(config, runs="stopped")
    assert code == 0 and f"going on after {len(done)} evaluations" in err, err
    assert door(config | {"executor": "inline"}, runs="whole")[0] == 0
    whole = rows(tmp_path / "whole" / "cells")
    assert rows(run) == whole and all(whole[id] == row for id, row in done.items())


SHIPPED = ["digits_autoencoder", "gecco_faithful", "gecco_improved"]


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_is_sound_and_plans_in_seconds(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    config = str(ROOT / "configs" / f"{name}.yaml")
    rules = Settings.parse([config]).make("strategy")
    assert main(["plan", config]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for words in (
        "groups",
        "encoder.layers.0",
        "an input of the model",
        "smallest reachable",
        f"time: {rules.candidates} evaluations: about",
    ):
        assert words in out, words
