"""Scores made comparable: ranks within each segment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spaces.base import Space

UNKNOWN = 0.5


def segment_ranks(space: Space, scores: np.ndarray) -> np.ndarray:
    """Return the rank of every score within its segment, from 0 (the lowest) to 1, float64 of the shape of
    `scores`.

    Layers differ in scale by orders of magnitude for reasons that have nothing to do with importance; ranks
    do not. Equals share their mean rank; what is unknown (NaN), or alone in its segment, lies in the middle.

    Args:
        scores: ``(length,)`` or ``(n, length)``.
    """
    table = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    sizes = np.array([segment.size for segment in space.segments])
    segment = np.repeat(np.arange(len(sizes), dtype=np.uint16), sizes)
    starts = np.cumsum(sizes) - sizes
    # sorted by segment and by score within it: a rank is the place behind the start of the segment
    order = _order(table, segment)
    ordered = np.take_along_axis(table, order, axis=1)
    first, last = _ties(ordered, segment)
    # NaN stand last in their segment, so those before them have the places of a segment without any
    known = np.add.reduceat(~np.isnan(table), starts, axis=1, dtype=np.int64)[:, segment]
    inner = ((first + last) / 2 - starts[segment]) / np.maximum(known - 1, 1)
    ranks = np.empty_like(table)
    np.put_along_axis(ranks, order, np.where(known > 1, inner, UNKNOWN), axis=1)
    ranks[np.isnan(table)] = UNKNOWN
    return ranks.reshape(np.shape(scores))


def drawn_ranks(space: Space, tables: Sequence[np.ndarray], n: int, rng: np.random.Generator) -> np.ndarray:
    """Return for each of `n` genomes the ranks within segments by one of the tables of scores, drawn at
    random, ``(n, length)``.

    Args:
        tables: at least one; each ``(length,)`` or ``(n, length)``.
    """
    ranks = [np.broadcast_to(segment_ranks(space, table), (n, space.length)) for table in tables]
    return np.stack(ranks)[rng.integers(len(tables), size=n), np.arange(n)]


def _order(table: np.ndarray, segment: np.ndarray) -> np.ndarray:
    """Return the places of the scores sorted by segment, then by score, NaN last.

    Segments are contiguous, so every row of ``segment[order]`` is `segment` again. The same as
    ``np.lexsort((table, segment))``, four times as fast: the second sort is stable on small integers, for
    which numpy has a radix sort.
    """
    by_score = np.argsort(table, axis=1)
    return np.take_along_axis(by_score, np.argsort(segment[by_score], axis=1, kind="stable"), axis=1)


def _ties(ordered: np.ndarray, segment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last position of the run of equal scores that each position belongs to, both
    ``(n, length)``.
    """
    positions = np.arange(ordered.shape[1])
    begins = np.ones(ordered.shape, dtype=bool)
    begins[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]) | (segment[1:] != segment[:-1])
    ends = np.ones_like(begins)
    ends[:, :-1] = begins[:, 1:]
    first = np.maximum.accumulate(np.where(begins, positions, 0), axis=1)
    last = np.minimum.accumulate(np.where(ends, positions, len(positions))[:, ::-1], axis=1)[:, ::-1]
    return first, last
