"""Our score of a trial at a rung: in units of the loss, each signal as heavy as it can be right. [O]"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.trial_pruning.curves import Pool
from search.tuning.weighing import halving_score


@dataclass(frozen=True)
class Weighing:
    """The score of :func:`halving_score`; after one epoch the mean loss of training and validation samples,
    which no trial has seen twice.

    Args:
        bias: column of the bias.
        share, errors: as there.
        pooled: whether the first rung goes by the mean loss of all samples; else by the same score as the
            others.
    """

    bias: str = "val/64/gram@0.001"
    share: float | None = None
    errors: float = 0.5
    pooled: bool = True

    def __call__(self, pool: Pool, trials: np.ndarray, epoch: int) -> np.ndarray:
        """Return the scores ``(trials,)`` of trials that have come as far as `epoch`, lower is better;
        infinite once diverged.
        """
        val, train, movement = (
            pool[name][trials, epoch - 1] for name in ("val_loss", "train_loss", "movement")
        )
        samples, labels = pool.held_out
        if epoch == 1 and self.pooled:
            return (pool.n * train + samples * val) / (pool.n + samples)
        bias = pool[self.bias][trials, :epoch].mean(1) / pool.n
        return halving_score(val, train, bias, movement, labels, self.share, self.errors)
