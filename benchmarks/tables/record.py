"""``python -m benchmarks.tables.record [--seeds 30] [--arms NAME ...]``: records what is missing, five seeds
of everything before the next five; ended and called again it goes on.

What every arm asked, seed by seed, is in one file an arm, a table and a set of objectives.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.tables.arms import ALONE, ARMS, SLOW, Metrics
from benchmarks.tables.recorded import REPORTING, load
from spaces.files import replacing

SHARDS = Path(__file__).parent.parent / "results" / "tables"
SEEDS, LONG, SHORT = 30, 1000, 200
NAS = ("nasbench201/cifar10", "nasbench201/cifar100", "nasbench201/imagenet")
"""Tuning tables whose fronts of error and latency stand beside the others."""
_ROUND = 5  # seeds
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
        words = [self.table, *self.metrics, self.arm, str(self.evaluations)]
        return folder / ("-".join(words).lower().replace("/", "-").replace(" ", "-") + ".npz")

    def load(self, folder: Path) -> dict[int, np.ndarray]:
        """Return what was asked, by seed."""
        file = self.file(folder)
        if not file.exists():
            return {}
        with np.load(file) as found:
            return {int(seed): found[seed] for seed in found.files}

    def save(self, folder: Path, found: dict[int, np.ndarray]) -> None:
        """Write what was asked."""
        content = io.BytesIO()
        rows = {str(seed): asked.astype(np.uint16) for seed, asked in sorted(found.items())}
        np.savez_compressed(content, **rows)  # type: ignore[arg-type]
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


def plan(
    tables: Sequence[str] = REPORTING,
    beside: Sequence[str] = NAS,
    long: int = LONG,
    short: int = SHORT,
    arms: Collection[str] = ARMS,
) -> list[Stage]:
    """Return all that is to be recorded, what takes longest last.

    Args:
        tables: whose figures are reported.
        beside: tables whose fronts of error and latency stand beside them.
        long: evaluations with one objective.
        short: evaluations with one objective before that, and with several.
        arms: their names.
    """
    one = [Stage(arm, table, ("error",), short) for table in tables for arm in arms]
    several = [
        Stage(arm, table, metrics, short) for table in tables for metrics in goals(table) for arm in arms
    ]
    several += [Stage(arm, table, ("error", "latency"), short) for table in beside for arm in arms]
    longer = [Stage(arm, table, ("error",), long) for table in tables for arm in arms if arm not in SLOW]
    able = [*one, *(stage for stage in several if stage.arm not in ALONE), *longer]
    return sorted(dict.fromkeys(able), key=lambda stage: stage.arm in SLOW)


def goals(table: str) -> list[Metrics]:
    """Return the sets of two and of three objectives that a table offers."""
    costs = load(table).costs
    return [*(("error", cost) for cost in costs), *([("error", *costs[:2])] if len(costs) > 1 else [])]


def record(stages: Sequence[Stage], folder: Path, seeds: int) -> None:
    """Record what is missing, and say how far it has come."""
    for number, stage in enumerate(stages):
        if any(seed not in stage.load(folder) for seed in range(seeds)):
            words = f"{number + 1}/{len(stages)} {stage.table}, {' and '.join(stage.metrics)}: {stage.arm}"
            print(f"{words}, {stage.evaluations} evaluations, {seeds} seeds", file=sys.stderr, flush=True)
            stage.run(folder, seeds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables.record")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="recorded in all")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=[*ARMS], help="these alone")
    arguments = parser.parse_args()
    for up_to in range(_ROUND, arguments.seeds + _ROUND, _ROUND):
        record(plan(arms=arguments.arms), SHARDS, min(up_to, arguments.seeds))
