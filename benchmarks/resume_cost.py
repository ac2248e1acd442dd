"""What it costs to go on with a run of very many cheap candidates: CPU seconds of one more call, with the
snapshot that the run left and without it, when everything is told again; and what writing snapshots cost.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import harness
from evaluators.base import Candidate, Evaluator, Report
from search.engine import Search
from search.finish.finish import Finish
from search.loop import Loop
from search.record.ledger import Ledger
from search.record.snapshot import NAME
from search.strategies.evolution import Evolution
from search.testing import BitSpace

LOCI, SEGMENTS = 64, 8
LAG, CHUNK = 64, 16


class Cheap(Evaluator):
    """Two opposing shares of kept bits: as good as nothing to evaluate."""

    metrics = ("error", "cost")

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        kept = candidate.genome.astype(float)
        yield Report({"error": 1 - float(kept[1::2].mean()), "cost": float(kept[::2].mean())})


class Looking:
    """A listener that remembers the loop."""

    loop: Loop

    def tick(self, loop: Loop) -> None:
        self.loop = loop


def call(folder: Path, evaluations: int) -> tuple[float, float, list[Any]]:
    """Run or go on to so many evaluations, report included, without an Optuna view.

    Returns:
        CPU seconds of this process, those of writing snapshots, and the front.
    """
    began, looking = time.process_time(), Looking()
    result = Search(
        space=BitSpace(LOCI, SEGMENTS),
        evaluators=[Cheap()],
        objectives=["error", "cost"],
        strategy=Evolution(),
        directory=folder,
        finish=Finish(members=0),
        study=False,
        lag=LAG,
        chunk=CHUNK,
        listeners=[looking],
    ).run(evaluations=evaluations)
    assert result.reason == "evaluations"
    front = [(e.candidate.id, e.metrics) for e in result.front]
    return time.process_time() - began, looking.loop._snapshots.spent, front


def latest(folder: Path) -> list[bytes]:
    """Return the genomes of the last candidates of a run."""
    with contextlib.closing(Ledger.reader(folder / "ledger.db")) as ledger:
        return [c.genome.tobytes() for c in ledger.candidates(ledger.counts()["candidates"] - 2 * CHUNK)]


def measure(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures and settings."""
    torch.set_num_threads(1)
    candidates = 6_000 if quick else 200_000
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "run")
        whole, writing, _ = call(folder, candidates)
        other = Path(temporary, "other")
        shutil.copytree(folder, other)
        (other / NAME).unlink()
        resumed, _, front = call(folder, candidates + CHUNK)
        replayed, _, same = call(other, candidates + CHUNK)
        identical = front == same and latest(folder) == latest(other)
    figures = {
        "resume_cpu_seconds": resumed,
        "replay_cpu_seconds": replayed,
        "snapshots_percent": 100 * writing / whole,
        "identical": identical,
    }
    settings = {"candidates": candidates, "loci": LOCI, "lag": LAG, "chunk": CHUNK}
    return figures, settings


if __name__ == "__main__":
    harness.main("resume_cost", measure)
