"""The recorded table, read back: pools of configurations with their curves, and what there is to lose on
each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.trial_pruning.record import COLUMNS, SEEDS, Regime, read_shard, shard_file
from benchmarks.trial_pruning.tasks import TASKS

POOL = 2
"""Shards a pool: pools share no configuration."""


@dataclass(frozen=True)
class Pool:
    """Curves of the configurations of some shards on one data split.

    Attributes:
        seed, number: of the data split, and of the pool among those on this split.
        table: ``(configurations, epochs, columns)``.
        sizes: number of parameters, ``(configurations,)``.
        n: training samples.
    """

    task: str
    seed: int
    number: int
    table: np.ndarray
    sizes: np.ndarray
    n: int

    @cached_property
    def held_out(self) -> tuple[int, int]:
        """Numbers of validation samples, and of their labels: one each, or one a position."""
        targets = TASKS[self.task].splits(self.seed).val[1]
        return len(targets), targets.numel()

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        return {}

    def __getitem__(self, column: str) -> np.ndarray:
        """Return a column ``(configurations, epochs)``: infinite once diverged, the latest estimate where an
        epoch has none.
        """
        if column not in self._columns:
            self._columns[column] = self._column(column)
        return self._columns[column]

    def _column(self, column: str) -> np.ndarray:
        values = self.table[:, :, COLUMNS.index(column)].astype(np.float64)
        diverged = ~np.isfinite(self.table[:, :, 0])
        for epoch in range(1, values.shape[1]):
            missing = np.isnan(values[:, epoch]) & ~diverged[:, epoch]
            values[missing, epoch] = values[missing, epoch - 1]
        return np.where(diverged, np.inf, values)

    def everywhere(self, values: np.ndarray) -> np.ndarray:
        """Return values of configurations as a column that is the same in every epoch."""
        return np.repeat(values[:, None].astype(np.float64), self.table.shape[1], 1)

    def checkpoint(self, config: int, reached: int) -> float:
        """Return the test loss of a configuration trained so far, at the epoch of its lowest
        validation loss.
        """
        return float(self["test_loss"][config, self["val_loss"][config, :reached].argmin()])

    @cached_property
    def at_checkpoint(self) -> np.ndarray:
        """Test loss of every configuration at the epoch of its lowest validation loss."""
        best = self["val_loss"].argmin(1)
        return self["test_loss"][np.arange(len(self.table)), best]

    @cached_property
    def at_end(self) -> np.ndarray:
        """Test loss at the last epoch."""
        return self["test_loss"][:, -1]


def pools(folder: Path, task: str, regime: Regime = "split") -> list[Pool]:
    """Return all whole pools of a task that were recorded."""
    found = []
    for seed in SEEDS:
        for first in range(0, 100, POOL):
            files = [shard_file(folder, task, seed, first + i, regime) for i in range(POOL)]
            if not all(file.exists() for file in files):
                break
            parts = [read_shard(file) for file in files]
            table, sizes = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
            found.append(Pool(task, seed, first // POOL, table, sizes, parts[0][2]))
    return found


def all_pools(folder: Path, regime: Regime = "split") -> dict[str, list[Pool]]:
    """Return the pools of all tasks that have any."""
    found = {task: pools(folder, task, regime) for task in TASKS}
    return {task: some for task, some in found.items() if some}
