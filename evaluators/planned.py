"""Costs of whole populations out of a slice plan, by arithmetic: no model is built."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from evaluators.counting import COSTS
from spaces.channels.plan import SlicePlan

_ROWS = 1024
"""Genomes at a time, so that the float copies of the keep bits stay in the processor's cache."""


class PlannedCosts:
    """Parameters, MACs and bytes as polynomials of kept counts. [O]

    The kept count of every distinct axis is one column of ``genomes @ membership + always``, where ``membership[l, a]`` says how often
    locus l occurs in axis a. A tensor holds the product of its axes' kept counts; an operation's MACs are proportional to such a product.
    All counts are integers below 2^24 (float32) or 2^53, so the results are exact.
    """

    def __init__(self, plan: SlicePlan) -> None:
        self._index: dict[bytes, int] = {}
        self._loci: list[np.ndarray] = []
        self._terms: dict[str, dict[tuple[int, ...], float]] = {name: defaultdict(float) for name in COSTS}
        for tensor in plan.tensors:
            sliced = self._columns(axis for axis in tensor.axes if axis is not None)
            whole = math.prod(size for size, axis in zip(tensor.shape, tensor.axes, strict=True) if axis is None)
            self._terms["bytes"][sliced] += whole * tensor.itemsize
            if tensor.parameter:
                self._terms["params"][sliced] += whole
        for operation in plan.operations:
            self._terms["macs"][self._columns(operation.axes)] += operation.macs / math.prod(len(axis) for axis in operation.axes)
        longest = max((len(loci) for loci in self._loci), default=0)
        self._membership = np.zeros((plan.length, len(self._loci)), dtype=np.float32 if longest < 2**24 else np.float64)
        self._always = np.zeros(len(self._loci))
        for column, loci in enumerate(self._loci):
            self._always[column] = (loci < 0).sum()
            self._membership[:, column] = np.bincount(loci[loci >= 0], minlength=plan.length)

    def __call__(self, genomes: np.ndarray) -> dict[str, np.ndarray]:
        """Return the costs of keep bits ``(n, length)``, each float64 of shape ``(n,)``."""
        kept = np.empty((len(genomes), len(self._loci)))
        for start in range(0, len(genomes), _ROWS):
            bits = np.ascontiguousarray(genomes[start : start + _ROWS]).astype(self._membership.dtype)
            kept[start : start + _ROWS] = bits @ self._membership + self._always
        return {name: self._sum(terms, np.ascontiguousarray(kept.T), len(genomes)) for name, terms in self._terms.items()}

    def _columns(self, axes: Iterable[np.ndarray]) -> tuple[int, ...]:
        """Return the columns of the axes, sorted: a product does not care for the order, and equal products are added up."""
        columns = []
        for loci in axes:
            key = np.ascontiguousarray(loci, dtype=np.int64).tobytes()
            if key not in self._index:
                self._index[key] = len(self._loci)
                self._loci.append(loci)
            columns.append(self._index[key])
        return tuple(sorted(columns))

    @staticmethod
    def _sum(terms: dict[tuple[int, ...], float], kept: np.ndarray, n: int) -> np.ndarray:
        total = np.zeros(n)
        for columns, factor in terms.items():
            term = np.full(n, factor)
            for column in columns:
                term *= kept[column]
            total += term
        return total
