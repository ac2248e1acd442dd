"""A search of cells through the door: searched, resumed, exported, reported, gone on with by evolution,
refused in one line.
"""

from __future__ import annotations

import contextlib
import copy
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from evaluators.assessment import assess
from evaluators.data import Digits
from run_search import main
from search.finish.recipe import Recipe, load
from search.record.finals import load_finals
from search.record.ledger import Ledger
from spaces.cells import CellNetwork
from spaces.cells import genotype as text

SHARES = {"train": 0.1, "calibration": 0.1, "search": 0.1, "test": 0.7}
CELLS = {
    "graph": {"class_path": "spaces.cells.DenseGraph", "init_args": {"nodes": 1}},
    "operations": ["none", "skip", "avg_pool_3", "sep_conv_3"],
}
STACK: dict[str, Any] = {
    "name": "cells",
    "executor": "inline",
    "model": {
        "class_path": "spaces.cells.CellStack",
        "init_args": {"width": 2, "cells": 2, "reductions": [1], "joined": 1},
    },
    "data": {"class_path": "evaluators.data.Digits", "init_args": {"shares": SHARES}},
    "space": {"class_path": "spaces.SupernetSpace", "init_args": CELLS},
    "evaluators": [
        {
            "class_path": "evaluators.SupernetSearch",
            "init_args": {
                "epochs": 4,
                "rule": {"class_path": "operators.stability.FixedStop", "init_args": {"epoch": 3, "keep": 2}},
                "supernet": {"warmup": 1, "share": 1, "architecture_learning_rate": 0.05},
                "training": {"class_path": "evaluators.Training", "init_args": {"epochs": 2}},
            },
        }
    ],
    "objectives": ["error", "macs"],
    "strategy": {"class_path": "search.RandomSearch"},
    "search": {"lag": 1, "chunk": 1, "budget": {"evaluations": 2}},
    "study": {"view": False},
    "finish": {"members": 1, "onnx": False, "latency_seconds": 0.0},
}
SEGMENTATION: dict[str, Any] = STACK | {
    "name": "skips",
    "model": {"class_path": "spaces.cells.SkipUNet", "init_args": {"widths": [3, 4]}},
    "training": {"epochs": 2},
    "data": {
        "class_path": "evaluators.data.Phantoms",
        "init_args": {"size": 16, "samples": {"train": 24, "calibration": 16, "search": 16, "test": 12}},
    },
    "objectives": ["max dice"],
    "search": {"lag": 1, "chunk": 1, "budget": {"evaluations": 1}},
    "finish": {"members": 1, "onnx": False, "latency_seconds": 0.0},
}


def go(folder: Path, config: dict[str, Any], *words: str) -> int:
    path = folder / f"{config['name']}.yaml"
    path.write_text(yaml.safe_dump(config))
    return main([str(path), "--runs", str(folder / "runs"), *words])


def _closing(run: Path) -> contextlib.closing[Ledger]:
    return contextlib.closing(Ledger.reader(run / "ledger.db"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a search of cells has run to its end."""
    where = tmp_path_factory.mktemp("cells")
    assert go(where, STACK) == 0
    return where


def test_the_cell_that_was_found_is_exported_as_it_was_trained(folder: Path) -> None:
    run = folder / "runs" / "cells"
    with _closing(run) as ledger:
        finals = load_finals(ledger)
        evaluations = {final.id: ledger.evaluation(final.id) for final in finals}
    assert finals and all(final.folder for final in finals)
    data = Digits(shares=SHARES)
    for final in finals:
        model, recipe = load(run / final.folder), Recipe.read(run / final.folder)
        found = evaluations[final.id]
        assert found is not None and isinstance(model, CellNetwork)
        assert recipe.model is not None and recipe.model["init_args"]["genotype"] == str(
            found.arrays["genotype"]
        )
        tested = assess(model, data, data.batches("test", 256))
        assert tested["error"] == pytest.approx(final.test["test_error"])
        assert (
            final.realised["macs"] == found.metrics["macs"]
            and final.realised["params"] == found.metrics["params"]
        )


@pytest.mark.slow
def test_a_cell_is_exported_to_onnx_and_agrees(tmp_path: Path) -> None:
    assert go(tmp_path, STACK, "--finish.onnx", "true", "--search.budget.evaluations", "1") == 0
    with _closing(tmp_path / "runs" / "cells") as ledger:
        final = load_finals(ledger)[0]
    assert (
        final.onnx["max_difference"] < 1e-4
        and (tmp_path / "runs" / "cells" / final.folder / final.onnx["file"]).is_file()
    )


def test_the_report_shows_the_cell_and_what_it_cost(folder: Path) -> None:
    page = (folder / "runs" / "cells" / "report.html").read_text()
    for words in (
        "The cell of candidate",
        "What became of the operations",
        "Coming to rest",
        "What an epoch cost",
        "normal: 0&lt;",
    ):
        assert words in page
    assert "What stays of each layer" not in page


def test_the_same_line_again_pays_for_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from evaluators.supernet import SupernetTraining

    monkeypatch.setattr(SupernetTraining, "epoch", None)
    assert go(folder, STACK) == 0
    assert "complete: 2 evaluations" in capsys.readouterr().err


def test_evolution_goes_on_with_what_the_search_left(folder: Path) -> None:
    run = folder / "runs" / "cells"
    config = copy.deepcopy(STACK) | {
        "name": "evolution",
        "space": {"class_path": "spaces.CellSpace", "init_args": CELLS | {"run": str(run)}},
        "evaluators": [{"class_path": "evaluators.Cost"}, {"class_path": "evaluators.Quality"}],
        "objectives": ["expected_error", "macs"],
        "constraints": ["macs <= 100%"],
        "strategy": {"class_path": "search.Evolution", "init_args": {"population": 4}},
        "search": {"lag": 2, "chunk": 2, "budget": {"evaluations": 8}},
        "finish": {"members": 1, "epochs": 1, "onnx": False, "latency_seconds": 0.0},
    }
    assert go(folder, config) == 0
    with _closing(folder / "runs" / "evolution") as ledger:
        finals = load_finals(ledger)
        genomes = {tuple(e.candidate.genome) for _, e in ledger.evaluations()}
    assert len(genomes) == 8
    left = [json.loads((run / "state" / "cells" / f"{id}.json").read_text()) for id in (0, 1)]
    best = min(left, key=lambda end: end["score"]["loss"])
    member = next(final for final in finals if final.folder)
    recipe = Recipe.read(folder / "runs" / "evolution" / member.folder)
    assert recipe.model is not None
    for kind, edges in text.read(recipe.model["init_args"]["genotype"]).items():
        for (source, target), operation in edges.items():
            assert operation in best["operations"][f"{kind}/{source}-{target}"]
    assert load(folder / "runs" / "evolution" / member.folder)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert {final.id for final in finals} >= {-1}, "the cell that the search ended with is the control"


def test_a_trained_network_gets_cells_and_every_case_is_told(tmp_path: Path) -> None:
    assert go(tmp_path, SEGMENTATION) == 0
    run = tmp_path / "runs" / "skips"
    with _closing(run) as ledger:
        final = load_finals(ledger)[0]
        cases = ledger.load_arrays(f"cases/{final.id}")
    assert {"test_dice", "test_dice_before"} <= final.test.keys()
    assert cases is not None and cases["before"].shape == cases["after"].shape == (12, 3)
    assert final.test["test_dice"] == pytest.approx(float(cases["after"].mean()), abs=1e-6)
    assert final.test["test_dice_before"] == pytest.approx(float(cases["before"].mean()), abs=1e-6)
    rows = list(csv.DictReader((run / final.folder / "cases.csv").open()))
    assert len(rows) == 12 and np.isclose(float(rows[3]["after_2"]), cases["after"][3, 1], atol=1e-4)
    assert "without cells and with them" in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (
            ["--space.init_args.at", "[cells.9]"],
            "space: at: CellStack has no module 'cells.9'; there are cells.0, cells.1",
        ),
        (["--space.init_args.operations", "[none, skip, warp]"], "space: operations: no operation 'warp'"),
        (["--space.init_args.operations", "[skip, torch.nn.LSTM]"], "space: operations: LSTM at stride 1"),
        (
            [
                "--evaluators",
                "[{class_path: evaluators.SupernetSearch, init_args: {epochs: 4, supernet: {warmup: 4}}}]",
            ],
            "never move",
        ),
        (
            ["--space", "{class_path: spaces.CellSpace}"],
            "space CellSpace; expected spaces.cells.SupernetSpace",
        ),
        (
            ["--space", "{class_path: spaces.CellSpace, init_args: {run: nowhere}}"],
            "space: run: nowhere has no searched cells",
        ),
        (
            [
                "--space.init_args.graph",
                "{class_path: spaces.cells.EdgeGraph, init_args: {edges: [a>0, b>0, 0>1, 1>0]}}",
            ],
            "a cycle 0 > 1 > 0",
        ),
        (
            [
                "--space.init_args.graph",
                "{class_path: spaces.cells.EdgeGraph, init_args: {edges: [a>0, b>0, x>1]}}",
            ],
            "no input leads to",
        ),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], what: str
) -> None:
    assert go(tmp_path, STACK, *words) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("error: ") and "\n" not in told and what in told
    assert not (tmp_path / "runs" / "cells" / "ledger.db").exists()
