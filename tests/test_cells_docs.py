"""docs/cells.md runs: its Python blocks, the classes that a config names, its genotype."""

import re
import sys
import types
from pathlib import Path

import pytest
import torch
import yaml

from search.config.settings import Settings
from spaces.cells import CellPlan, CellStack, DenseGraph, Design, Operations
from spaces.cells import genotype as text

PAGE = (Path(__file__).parent.parent / "docs" / "cells.md").read_text()
PYTHON, YAML = (re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) for language in ("python", "yaml"))


def run(code: str, name: str) -> types.ModuleType:
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(code, f"docs/cells.md: {name}", "exec"), module.__dict__)
    return module


def test_the_library_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    run(PYTHON[0], "library")
    assert "normal: 0<" in capsys.readouterr().out


def test_the_users_operation_and_graph_work() -> None:
    run(PYTHON[1], "my_operations")
    operations = Operations(yaml.safe_load(YAML[1])["operations"], (1, 2))
    assert "Plain" in operations.names
    plan = CellPlan.of(run(PYTHON[2], "my_graphs").Chain(3))
    assert plan.inputs == ("skip", "up") and len(plan.edges) == 6
    host = CellStack(width=2, cells=2, reductions=[1], joined=3)
    design = Design(host, (torch.zeros(2, 1, 8, 8),), run(PYTHON[2], "my_graphs").Chain(3), operations.paths)
    assert design.supernet(share=1)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_the_config_is_one(tmp_path: Path) -> None:
    path = tmp_path / "cells.yaml"
    path.write_text(YAML[0] + "data: {class_path: evaluators.data.Digits}\n")
    evaluator = Settings.parse([str(path)]).make("evaluators")[0]
    assert evaluator.epochs == 50 and (evaluator.supernet.warmup, evaluator.supernet.warmup_operations) == (
        15,
        2,
    )


def test_the_genotype_reads_back() -> None:
    words = re.search(r"^    (normal: .*)$", PAGE, re.MULTILINE)
    assert words is not None
    cells = text.read(words[1])
    assert text.write(cells) == words[1] and set(cells["reduction"]) <= set(CellPlan.of(DenseGraph(2)).edges)
