"""What the Optuna view of a large run takes: ``python -m benchmarks.study [--quick] [--json FILE]``.

A ledger of 200,000 made evaluations (20,000 with ``--quick``), a tenth of them failed, a tenth stopped after
three reports, is shown by a process of its own, as beside a search: once from nothing, once again as on
resume, and once as a search that grows, where the view is written anew as it gets too large. The figures are
the largest resident memory of these processes, the journal's size, the trials that are shown, and seconds.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from evaluators.base import Candidate, Evaluation, Report, State
from search.record.about import About
from search.record.ledger import Ledger
from search.testing import pruning

ROWS, QUICK, CHUNK = 200_000, 20_000, 2_000
PROBLEM = pruning(40, ["macs <= 60%"])


def fill(ledger: Ledger, start: int, stop: int) -> None:
    """Add made evaluations with these ids."""
    for first in range(start, stop, CHUNK):
        size = min(CHUNK, stop - first)
        genomes = PROBLEM.space.sample(size, np.random.default_rng(first))
        columns = PROBLEM.evaluator.function(genomes)  # type: ignore[attr-defined]
        candidates = [
            Candidate(first + i, genome, (), "Uniform+BitFlip", first + i) for i, genome in enumerate(genomes)
        ]
        ledger.add_candidates(candidates)
        for i, candidate in enumerate(candidates):
            metrics = {name: float(values[i]) for name, values in columns.items()}
            state = {0: State.FAILED, 1: State.PRUNED}.get(candidate.id % 10, State.COMPLETE)
            if state is State.PRUNED:
                for step in range(3):
                    ledger.add_report(candidate.id, Report({"error": 1 - step / 10}, step))
            reason = "RuntimeError: made" if state is State.FAILED else ""
            found = {} if state is State.FAILED else metrics
            ledger.add_evaluation(
                Evaluation(candidate, state, found, reason=reason, seconds=0.5, worker="here:1")
            )
        ledger.commit()


def show(folder: Path) -> dict[str, float | str]:
    """Write the study of a ledger in a process of its own; return what that took."""
    began = time.perf_counter()
    words = [sys.executable, "-c", _MEASURED, str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    *told, peak = done.stdout.strip().splitlines()
    return {
        "seconds": time.perf_counter() - began,
        "resident_mib": int(peak) / 1024,
        "log_mb": (folder / "study.log").stat().st_size / 1e6,
        "told": " ".join(told),
    }


_MEASURED = """
import re, sys
from search.study.__main__ import main
main(sys.argv[1:])
print(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
"""
"""The process of the view, which says at the end how much memory it had at most."""


def trials(folder: Path) -> int:
    """Count the trials of a journal, by its entries."""
    with (folder / "study.log").open("rb") as log:
        return sum(b'"op_code":4' in line for line in log)


def measure(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the figures and what they were measured with."""
    rows = QUICK if quick else ROWS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ledger = Ledger(folder / "ledger.db", PROBLEM.space)
        About.of("large", PROBLEM).save(ledger)
        grown: list[dict[str, float | str]] = []
        done = 0
        for stop in (rows // 32, rows // 8, rows // 2, rows):
            fill(ledger, done, stop)
            done = stop
            grown.append(show(folder))
        again = show(folder)
        shown = trials(folder)
        (folder / "study.log").unlink()
        whole = show(folder)
        ledger.close()
    figures = {
        "resident_mib": max(float(run["resident_mib"]) for run in (*grown, again, whole)),
        "log_mb": max(float(run["log_mb"]) for run in (*grown, again, whole)),
        "shown": shown,
        "seconds_from_nothing": whole["seconds"],
        "seconds_again": again["seconds"],
        "told": whole["told"],
    }
    return figures, {"rows": rows, "grown_at": [rows // 32, rows // 8, rows // 2, rows]}


if __name__ == "__main__":
    harness.main("study", measure)
