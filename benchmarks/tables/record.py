"""Recordings: what every arm asked, seed by seed, in one file an arm, a table and a set of objectives."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.tables.arms import ALONE, ARMS, SLOW, Metrics
from benchmarks.tables.recorded import load
from spaces.files import replacing

SHARDS = Path(__file__).parent.parent / "results" / "tables"
_OFTEN = 10.0  # seconds between two writings of one file


@dataclass(frozen=True)
class Stage:
    """One arm on one table.

    Attributes:
        arm: its name.
        table: its name.
        metrics: objectives, the error first.
        evaluations: of each seed, at most.
    """

    arm: str
    table: str
    metrics: Metrics
    evaluations: int

    def file(self, folder: Path) -> Path:
        """Return where it is kept."""
        words = [self.table, *self.metrics, self.arm]
        return folder / ("-".join(words).lower().replace("/", "-").replace(" ", "-") + ".npz")

    def load(self, folder: Path) -> dict[int, np.ndarray]:
        """Return what was asked, by seed; what was recorded with fewer evaluations is left out."""
        file = self.file(folder)
        if not file.exists():
            return {}
        with np.load(file) as found:
            if int(found["evaluations"]) < self.evaluations:
                return {}
            return {int(seed): found[seed] for seed in found.files if seed != "evaluations"}

    def save(self, folder: Path, found: dict[int, np.ndarray]) -> None:
        """Write what was asked."""
        content = io.BytesIO()
        rows = {str(seed): asked.astype(np.uint16) for seed, asked in sorted(found.items())}
        np.savez_compressed(content, evaluations=np.array(self.evaluations), **rows)  # type: ignore[arg-type]
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.file(folder)) as file:
            file.write_bytes(content.getvalue())

    def run(self, folder: Path, seeds: int) -> None:
        """Record the seeds that are missing."""
        torch.set_num_threads(1)
        found, table, written = self.load(folder), load(self.table), time.monotonic()
        missing = [seed for seed in range(seeds) if seed not in found]
        for seed in missing:
            found[seed] = ARMS[self.arm](table, self.metrics, self.evaluations, seed)
            if time.monotonic() - written > _OFTEN:
                self.save(folder, found)
                written = time.monotonic()
        if missing:
            self.save(folder, found)


def stages(
    tables: Sequence[str], goals: int, evaluations: int, arms: Sequence[str] | None = None
) -> list[Stage]:
    """Return the stages of some tables.

    Args:
        tables: their names.
        goals: how many objectives: 1 the error alone, 2 with each of the costs, 3 with two of them.
        evaluations: of each seed.
        arms: their names; None: all.
    """
    found = [
        Stage(arm, table, metrics, min(evaluations, SLOW.get(arm, evaluations)))
        for table in tables
        for metrics in objectives(table, goals)
        for arm in (ARMS if arms is None else arms)
        if goals == 1 or arm not in ALONE
    ]
    return found


def objectives(table: str, goals: int) -> list[Metrics]:
    """Return the sets of so many objectives that a table offers."""
    costs = load(table).costs
    if goals == 1:
        return [("error",)]
    if goals == 2:
        return [("error", cost) for cost in costs]
    return [("error", *costs[:2])] if len(costs) > 1 else []


def record(all_stages: Sequence[Stage], folder: Path, seeds: int) -> None:
    """Record what is missing, and say how far it has come."""
    for number, stage in enumerate(all_stages):
        if any(seed not in stage.load(folder) for seed in range(seeds)):
            print(f"{number + 1}/{len(all_stages)} {stage}", file=sys.stderr, flush=True)
            stage.run(folder, seeds)
