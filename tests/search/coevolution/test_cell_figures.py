"""The figures of a coevolution: what they show is so, and nothing is shown that means nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluators import Cost, PairTraining
from operators.mutation import RandomPruning
from operators.schedules import Fixed
from search import Finish, Ledger, Search
from search.coevolution import Coevolution, Ring
from search.report import cell_figures
from search.report.cell_facts import CellFacts
from search.report.facts import gather
from spaces.pairs.space import PairSpace

sys.path.insert(0, str(Path(__file__).parent))
from cell_case import tiny_data, tiny_pair


def cells_of(folder: Path, training: dict[str, Any] | None = None, **rules: Any) -> CellFacts:
    """A run of four cells, as the report knows it."""
    pruned = {"schedule": Fixed(0.5), "pruning": [RandomPruning(0.2)]}
    strategy = Coevolution(Ring(4), **({"steps": 5} | pruned | rules))
    parts = [Cost(), PairTraining(**({"batches": 2} | (training or {})))]
    settings = {
        "space": PairSpace,
        "evaluators": parts,
        "objectives": ["loss", "params"],
        "strategy": strategy,
    }
    Search(tiny_pair(), tiny_data(), directory=folder, finish=Finish(members=0), **settings).run(
        evaluations=None
    )  # type: ignore[arg-type]
    ledger = Ledger.reader(folder / "ledger.db")
    try:
        cells = gather(ledger).cells
    finally:
        ledger.close()
    assert cells is not None
    return cells


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data if trace.name}


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> CellFacts:
    """A run in which weights stay pruned."""
    return cells_of(tmp_path_factory.mktemp("cells") / "run")


def test_marks_are_the_pruning_events_and_the_axes_end_with_the_cells(
    cells: CellFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = cell_figures.cells_figure(cells)
    marks = traces(figure)["pruned"]
    assert set(zip(marks.x, marks.y, strict=True)) == {
        (step, cell) for step, cell, what in cells.events if "random" in what
    }
    assert list(figure.layout.xaxis.range) == [-0.5, 5.5] and list(figure.layout.yaxis.range) == [3.5, -0.5]
    assert not figure.layout.showlegend
    monkeypatch.setattr(cell_figures, "_EVENTS", 4)
    few = traces(cell_figures.cells_figure(cells))["pruned"]
    assert len(cells.events) > 4 >= len(few.x) >= 2 and max(few.x) - min(few.x) >= 2, (
        "not the first or the last ones alone"
    )


def test_cells_that_began_again_are_no_pruning_events(tmp_path: Path) -> None:
    training = {"optimiser": "sgd", "learning_rate": 1e30}
    cells = cells_of(tmp_path / "run", training, schedule=None, pruning=(), steps=2)
    figure = cell_figures.cells_figure(cells)
    (name,) = traces(figure)
    assert (
        "diverged" in name
        and figure.layout.showlegend
        and len(traces(figure)[name].x) == len(cells.events) > 0
    )


def test_what_is_alive(cells: CellFacts) -> None:
    lines = traces(cell_figures.alive_figure(cells))
    assert list(lines) == [f"{name} ({size})" for name, size in cells.segments]
    last = [np.mean([row[i] for row in cells.kept[5]]) for i in range(len(cells.segments))]
    assert [line.y[-1] for line in lines.values()] == pytest.approx(last) and min(last) < 1


def test_where_weights_regrow_the_share_that_is_not_0_is_drawn(tmp_path: Path) -> None:
    """Genomes stay whole there: their shares would be a picture of nothing pruned."""
    cells = cells_of(tmp_path / "run", persistent=False, prune_first=False)
    (line,) = cell_figures.alive_figure(cells).data
    assert "not 0" in line.name and line.y[0] == 1 and min(line.y) < 1
