"""``python -m benchmarks.coevolution [--quick] [--json FILE]`` collects what was recorded; ``--quick`` records a little anew instead.

What is recorded by what: ``faithful`` (and its ``--extra``), ``floors``, ``controls``; each goes on where it stopped.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks import harness
from benchmarks.coevolution import faithful
from benchmarks.coevolution.arms import BUDGET, TASKS
from benchmarks.coevolution.controls import ARMS, record
from benchmarks.coevolution.fronts import front_figures
from benchmarks.coevolution.published import faithful_figures


def measure(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures and settings."""
    if not quick:
        return _collected(faithful.FOLDER)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for arm in ("none", "RANDOM"):
            faithful.record(folder, "canonical", arm, [0, 1], epochs=20)
            faithful.record(folder, "coevolution", arm, [0], epochs=4)
        for control in ARMS.values():
            record(folder, TASKS["digits"], control, 0, BUDGET / 100)
        return _collected(folder)


def _collected(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    (figures, settings), (more, others) = faithful_figures(folder), front_figures(folder)
    return figures | more, settings | others


if __name__ == "__main__":
    harness.main("coevolution", measure)
