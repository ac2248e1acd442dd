"""Costs of whole populations out of a slice plan, by arithmetic: no model is built."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from evaluators.cost.counting import COSTS
from spaces.channels.plan import SlicePlan

_ROWS = 1024
"""Genomes at a time, so that the float copies of the keep bits stay in the processor's cache."""


class PlannedCosts:
    """Parameters, MACs and bytes as polynomials of kept counts. [O]

    The kept count of every distinct axis is one column of ``genomes @ membership + always``, where
    ``membership[l, a]`` says how often locus l occurs in axis a. A tensor holds the product of its axes' kept
    counts; an operation's MACs are proportional to such a product. An axis whose positions have several loci
    (heads and places within them) is a sum of such products, one a kind of position. All counts are integers
    below 2^24 (float32) or 2^53, so the results are exact.
    """

    def __init__(self, plan: SlicePlan) -> None:
        self._index: dict[bytes, int] = {}
        self._loci: list[np.ndarray] = []
        self._segment_of = np.repeat(
            np.arange(len(plan.segments)), [segment.size for segment in plan.segments]
        )
        self._terms: dict[str, dict[tuple[int, ...], float]] = {name: defaultdict(float) for name in COSTS}
        for tensor in plan.tensors:
            sizes = zip(tensor.shape, tensor.axes, strict=True)
            whole = math.prod(size for size, axis in sizes if axis is None)
            axes = [*(axis for axis in tensor.axes if axis is not None), *_gate(tensor.gate)]
            self._add("bytes", whole * tensor.itemsize, axes)
            if tensor.parameter:
                self._add("params", whole, axes)
        for operation in plan.operations:
            one = operation.macs / math.prod(axis.shape[-1] for axis in operation.axes)
            self._add("macs", one, [*operation.axes, *_gate(operation.gate)])
        longest = max((len(loci) for loci in self._loci), default=0)
        self._membership = np.zeros(
            (plan.length, len(self._loci)), dtype=np.float32 if longest < 2**24 else np.float64
        )
        self._always = np.zeros(len(self._loci))
        for column, loci in enumerate(self._loci):
            self._always[column] = (loci < 0).sum()
            self._membership[:, column] = np.bincount(loci[loci >= 0], minlength=plan.length)

    def __call__(self, genomes: np.ndarray) -> dict[str, np.ndarray]:
        """Return the costs of keep bits ``(n, length)``, each float64 of shape ``(n,)``."""
        kept = np.empty((len(genomes), len(self._loci)))
        for start in range(0, len(genomes), _ROWS):
            bits = np.ascontiguousarray(genomes[start : start + _ROWS, : len(self._membership)]).astype(
                self._membership.dtype
            )
            kept[start : start + _ROWS] = bits @ self._membership + self._always
        return {
            name: self._sum(terms, np.ascontiguousarray(kept.T), len(genomes))
            for name, terms in self._terms.items()
        }

    def _add(self, cost: str, factor: float, axes: Sequence[np.ndarray]) -> None:
        """Add a product of kept counts to a cost."""
        for parts in itertools.product(*(self._polynomial(axis) for axis in axes)):
            # a product does not care for the order, and equal products are added up
            columns = tuple(sorted(column for _, of_part in parts for column in of_part))
            self._terms[cost][columns] += factor * math.prod(times for times, _ in parts)

    def _polynomial(self, axis: np.ndarray) -> list[tuple[int, list[int]]]:
        """Return the kept count of an axis as a sum of products: how often, and the columns of each."""
        if axis.ndim == 1:
            return [(1, [self._column(axis)])]
        terms = []
        kinds = np.where(axis >= 0, self._segment_of[axis], -1)
        for kind in np.unique(kinds, axis=1).T:
            part = axis[:, (kinds == kind[:, None]).all(axis=0)]
            distinct = [np.unique(row) for row in part if row[0] >= 0]
            times = part.shape[1] // math.prod(len(loci) for loci in distinct)
            terms.append((times, [self._column(loci) for loci in distinct]))
        return terms

    def _column(self, loci: np.ndarray) -> int:
        key = np.ascontiguousarray(loci, dtype=np.int64).tobytes()
        if key not in self._index:
            self._index[key] = len(self._loci)
            self._loci.append(loci)
        return self._index[key]

    @staticmethod
    def _sum(terms: dict[tuple[int, ...], float], kept: np.ndarray, n: int) -> np.ndarray:
        total = np.zeros(n)
        for columns, factor in terms.items():
            term = np.full(n, factor)
            for column in columns:
                term *= kept[column]
            total += term
        return total


def _gate(locus: int) -> list[np.ndarray]:
    """The locus of the block that something is in, as an axis of size 1, which makes it 0 without the block;
    none outside of blocks (-1).
    """
    return [] if locus < 0 else [np.array([locus])]
