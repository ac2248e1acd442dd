"""``python -m benchmarks.fronts [--quick] [--json FILE]`` collects what ``record`` recorded; ``--quick``
records a little anew instead.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks import harness
from benchmarks.fronts.figures import figures
from benchmarks.fronts.record import FOLDER, record
from benchmarks.fronts.roster import ARMS, MAIN

QUICK = (MAIN, "iterative magnitude", "uniform width")


def measure(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures and settings."""
    torch.set_num_threads(1)
    if not quick:
        return figures(FOLDER)
    with tempfile.TemporaryDirectory() as name:
        for arm in (ARMS[name] for name in QUICK):
            record(Path(name), "digits", arm, 0, 0.3)
        return figures(Path(name))


if __name__ == "__main__":
    harness.main("fronts", measure)
