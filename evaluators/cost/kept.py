"""How much of every axis a genome keeps: the columns that all arithmetic of costs is made of."""

from __future__ import annotations

import math

import numpy as np

from spaces.channels.plan import SlicePlan

_ROWS = 1024
"""Genomes at a time, so that the float copies of the keep bits stay in the processor's cache."""

Product = tuple[int, tuple[int, ...]]
"""How often, and the columns whose kept counts are multiplied."""


class KeptCounts:
    """The kept count of every distinct axis as one column of ``genomes @ membership + always``. [O]

    ``membership[l, a]`` says how often locus l occurs in axis a. An axis whose positions have several loci
    (heads and places within them) is a sum of products of columns, one a kind of position. All counts are
    integers below 2^24 (float32) or 2^53, so they are exact.
    """

    def __init__(self, plan: SlicePlan) -> None:
        self.length = plan.length
        self._index: dict[bytes, int] = {}
        self._loci: list[np.ndarray] = []
        self._segment_of = np.repeat(
            np.arange(len(plan.segments)), [segment.size for segment in plan.segments]
        )
        self._matrix: tuple[np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self._loci)

    def axis(self, axis: np.ndarray) -> list[Product]:
        """Return the kept count of an axis, ``(size,)`` or ``(levels, size)``, as a sum of products."""
        if axis.ndim == 1:
            return [(1, (self.column(axis),))]
        terms = []
        kinds = np.where(axis >= 0, self._segment_of[axis], -1)
        for kind in np.unique(kinds, axis=1).T:
            part = axis[:, (kinds == kind[:, None]).all(axis=0)]
            distinct = [np.unique(row) for row in part if row[0] >= 0]
            times = part.shape[1] // math.prod(len(loci) for loci in distinct)
            terms.append((times, tuple(self.column(loci) for loci in distinct)))
        return terms

    def column(self, loci: np.ndarray) -> int:
        """Return the column of an axis whose positions have one locus each."""
        key = np.ascontiguousarray(loci, dtype=np.int64).tobytes()
        if key not in self._index:
            self._index[key] = len(self._loci)
            self._loci.append(loci)
            self._matrix = None
        return self._index[key]

    def __call__(self, genomes: np.ndarray) -> np.ndarray:
        """Return the kept counts of keep bits ``(n, length)``, float64 of shape ``(n, columns)``."""
        membership, always = self._matrix = self._matrix or self._built()
        kept = np.empty((len(genomes), len(self._loci)))
        for start in range(0, len(genomes), _ROWS):
            bits = np.ascontiguousarray(genomes[start : start + _ROWS, : self.length]).astype(
                membership.dtype
            )
            kept[start : start + _ROWS] = bits @ membership + always
        return kept

    def _built(self) -> tuple[np.ndarray, np.ndarray]:
        longest = max((len(loci) for loci in self._loci), default=0)
        membership = np.zeros(
            (self.length, len(self._loci)), dtype=np.float32 if longest < 2**24 else np.float64
        )
        always = np.zeros(len(self._loci))
        for column, loci in enumerate(self._loci):
            always[column] = (loci < 0).sum()
            membership[:, column] = np.bincount(loci[loci >= 0], minlength=self.length)
        return membership, always
