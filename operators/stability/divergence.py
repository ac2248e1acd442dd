"""How far apart distributions over operations are: pure functions on arrays."""

from __future__ import annotations

import numpy as np


def entropy(p: np.ndarray) -> np.ndarray:
    """Return the entropy in bits of distributions along the last axis, 0 .. log2(operations)."""
    return -np.where(p > 0, p * np.log2(np.where(p > 0, p, 1.0)), 0.0).sum(axis=-1)


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return the Jensen-Shannon divergence in bits of distributions along the last axis: 0 .. 1, symmetric.

    H((p + q) / 2) - (H(p) + H(q)) / 2 (Lin 1991); scipy's ``jensenshannon`` is its square root, in nats. [P]
    It is summed as two relative entropies, each term by ``log1p`` where p and q are close: importances move
    by 1e-4, and a difference of entropies would lose that to rounding.

    Args:
        p: at least 0 with the sum 1 along the last axis.
        q: the same; they broadcast.
    """
    p, q = np.broadcast_arrays(np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64))
    total = p + q
    safe = np.where(total > 0, total, 1.0)
    tilt = (p - q) / safe  # p = total / 2 (1 + tilt), q = total / 2 (1 - tilt)
    up = np.where(tilt > -1, np.log1p(np.where(tilt > -1, tilt, 0.0)), 0.0)
    down = np.where(tilt < 1, np.log1p(np.where(tilt < 1, -tilt, 0.0)), 0.0)
    terms = total / 4 * ((1 + tilt) * up + (1 - tilt) * down)
    return np.clip(terms.sum(axis=-1) / np.log(2), 0.0, 1.0)


def intersection(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return the histogram intersection of distributions along the last axis, sum of min(p, q): 0 .. 1. [P]
    (SGAS)
    """
    return np.minimum(p, q).sum(axis=-1)


def window_means(importances: np.ndarray, window: int) -> np.ndarray:
    """Return the mean of every `window` checks in a row, ``(checks - window + 1, operations)``; none of
    shorter histories.
    """
    checks, operations = importances.shape
    if checks < window:
        return np.empty((0, operations))
    sums = np.concatenate([np.zeros((1, operations)), importances.cumsum(axis=0)])
    return (sums[window:] - sums[:-window]) / window


def window_divergences(importances: np.ndarray, window: int) -> np.ndarray:
    """Return JS between each check's window and the one before it, ``(checks - 2 window + 1,)``: the two
    windows do not overlap.

    The last number belongs to the newest check. A history shorter than two windows gives an empty array.
    """
    means = window_means(importances, window)
    return jensen_shannon(means[window:], means[:-window]) if len(means) > window else np.empty(0)
