"""Weighted draws without replacement, a whole population at once."""

from __future__ import annotations

import numpy as np


def draw(weights: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a mask of `counts` loci of every row, drawn one after the other with chances in proportion to
    their weights.

    Source: Efraimidis and Spirakis 2006, doi 10.1016/j.ipl.2005.11.003 [P]: the largest keys
    ``log(u) / weight`` win.

    Args:
        weights: at least 0, ``(n, length)``; what weighs 0 is never drawn.
        counts: how many of each row, ``(n,)``; where that is more than there are, all of them.
        rng: where the chances come from.

    Returns:
        bool of shape ``(n, length)``.
    """
    # a key a locus; the places of the sorted keys tell in one step, for all rows, which loci are drawn
    possible = weights > 0
    keys = np.where(
        possible, np.log1p(-rng.random(weights.shape)) / np.where(possible, weights, 1.0), -np.inf
    )
    places = np.empty(weights.shape, dtype=np.int64)
    np.put_along_axis(places, np.argsort(-keys, axis=1), np.arange(weights.shape[1])[None], axis=1)
    return possible & (places < np.asarray(counts)[:, None])
