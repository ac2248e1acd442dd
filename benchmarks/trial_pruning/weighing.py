"""Our scores of a trial at a rung: in units of the loss, each signal as heavy as it can be right. [O]"""

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
        pooling: how far later rungs go from the validation loss to the mean loss of all samples, 0 to 1.
        trace: weight of the trace TIC's normal scores, in standard errors of the validation loss.
    """

    bias: str = "val/64/gram@0.001"
    share: float | None = None
    errors: float = 0.5
    pooled: bool = True
    pooling: float = 0.0
    trace: float = 0.0

    def __call__(self, pool: Pool, trials: np.ndarray, epoch: int) -> np.ndarray:
        """Return the scores ``(trials,)`` of trials that have come as far as `epoch`, lower is better;
        infinite once diverged.
        """
        val, train, movement, trace = (
            pool[name][trials, epoch - 1] for name in ("val_loss", "train_loss", "movement", "val/64/trace")
        )
        samples, labels = pool.held_out
        everyone = (pool.n * train + samples * val) / (pool.n + samples)
        if epoch == 1 and self.pooled:
            return everyone
        bias = pool[self.bias][trials, :epoch].mean(1) / pool.n
        others = [(trace, self.trace)] if self.trace else []
        score = halving_score(val, train, bias, movement, labels, self.share, self.errors, others)
        if self.pooling:
            fine = np.isfinite(score)
            score[fine] += self.pooling * (everyone - val)[fine]
        return score


@dataclass(frozen=True)
class Precision:
    """Validation loss and training loss plus bias, each by the inverse of its variance: that of a mean of
    losses which scatter as widely as their median, and for the second that of the bias besides.
    """

    def __call__(self, pool: Pool, trials: np.ndarray, epoch: int) -> np.ndarray:
        """Return the scores ``(trials,)``, as above."""
        val, train, bias, error = (
            pool[name][trials, epoch - 1]
            for name in ("val_loss", "train_loss", "val/64/gram@0.001", "val/64/error")
        )
        score, fine = np.full(len(val), np.inf), np.isfinite(val)
        if fine.any():
            level = np.median(val[fine])
            held_out = level**2 / pool.held_out[1]
            fitted = level**2 / pool.n + np.median(error[fine] / pool.n) ** 2
            predicted = (train + bias / pool.n)[fine]
            score[fine] = (val[fine] * fitted + predicted * held_out) / (held_out + fitted)
        return score
