"""What it costs to go on with a run of very many cheap candidates: CPU seconds of one more call, with the
snapshot that the run left and without it, when everything is told again; and what writing snapshots cost.

    python -m benchmarks.resume_cost                  # makes the run first, which takes minutes
    python -m benchmarks.resume_cost --keep FOLDER    # makes it once; then as often as wanted:
    python -m benchmarks.resume_cost --run FOLDER
"""

from __future__ import annotations

import argparse
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


def measure(candidates: int, made: Path | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures and settings.

    Args:
        candidates: of the run that is gone on with.
        made: folder of such a run that was made before by this benchmark; None: it is made, which takes
            minutes, and what its snapshots cost is a figure, too.
    """
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder, other = Path(temporary, "run"), Path(temporary, "other")
        if made is None:
            whole, writing, _ = call(folder, candidates)
            figures["snapshots_percent"] = 100 * writing / whole
        else:
            shutil.copytree(made, folder)
            with contextlib.closing(Ledger.reader(folder / "ledger.db")) as ledger:
                candidates = ledger.counts()["evaluations"]
        shutil.copytree(folder, other)
        (other / NAME).unlink()
        resumed, _, front = call(folder, candidates + CHUNK)
        replayed, _, same = call(other, candidates + CHUNK)
        figures |= {
            "resume_cpu_seconds": resumed,
            "replay_cpu_seconds": replayed,
            "identical": front == same and latest(folder) == latest(other),
        }
    return figures, {"candidates": candidates, "loci": LOCI, "lag": LAG, "chunk": CHUNK}


def main() -> None:
    """Measure, print the figures, and write them where ``--json`` says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resume_cost")
    parser.add_argument("--quick", action="store_true", help="under 50 seconds on 2 cores: 6,000 candidates")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="a run that was made before, kept")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="make such a run there, and end")
    arguments = parser.parse_args()
    candidates = 6_000 if arguments.quick else 200_000
    if arguments.keep is not None:
        call(arguments.keep, candidates)
        return
    where = harness.environment()
    figures, settings = measure(candidates, arguments.run)
    harness.report("resume_cost", figures, {"quick": arguments.quick} | settings, where, arguments.json)


if __name__ == "__main__":
    main()
