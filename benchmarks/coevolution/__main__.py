"""``python -m benchmarks.coevolution [--quick] [--json FILE]`` collects what was recorded; ``--quick``
records a little anew instead.

What is recorded by what: ``faithful`` (and its ``--extra``), ``floors``, ``improved``, ``controls``,
``ours``, ``mixed``; each goes on where it stopped. How busy workers are and what moves between cells is
measured here.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks import harness
from benchmarks.coevolution import faithful
from benchmarks.coevolution.arms import BUDGET, TASKS
from benchmarks.coevolution.cells import cell_figures
from benchmarks.coevolution.controls import ARMS, record
from benchmarks.coevolution.fronts import front_figures
from benchmarks.coevolution.improved import improved_figures
from benchmarks.coevolution.mixed import mixed_figures
from benchmarks.coevolution.published import faithful_figures


def measure(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures and settings."""
    torch.set_num_threads(1)
    cells = cell_figures(quick)
    if not quick:
        figures, settings = replay()
        return figures | cells, settings
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for arm in ("none", "RANDOM"):
            faithful.record(folder, "canonical", arm, [0, 1], epochs=20)
            faithful.record(folder, "coevolution", arm, [0], epochs=4)
        for control in ARMS.values():
            record(folder, TASKS["digits"], control, 0, BUDGET / 100)
        figures, settings = replay(folder)
        return figures | cells, settings


def replay(folder: Path = faithful.FOLDER) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the figures of what is recorded, and the settings they rest on, without running anything."""
    (figures, settings), (more, others) = faithful_figures(folder), front_figures(folder)
    return figures | more | improved_figures(folder) | mixed_figures(folder), settings | others


if __name__ == "__main__":
    harness.main("coevolution", measure)
