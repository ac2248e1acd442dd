"""Costs of whole populations out of a slice plan, by arithmetic: no model is built."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from evaluators.cost.counting import COSTS
from evaluators.cost.kept import KeptCounts
from spaces.channels.plan import SlicePlan


class PlannedCosts:
    """Parameters, MACs and bytes as polynomials of kept counts. [O]

    A tensor holds the product of its axes' kept counts; an operation's MACs are proportional to such a
    product. All counts are whole numbers, so the results are exact.
    """

    def __init__(self, plan: SlicePlan) -> None:
        self._kept = KeptCounts(plan)
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

    def __call__(self, genomes: np.ndarray) -> dict[str, np.ndarray]:
        """Return the costs of keep bits ``(n, length)``, each float64 of shape ``(n,)``."""
        kept = np.ascontiguousarray(self._kept(genomes).T)
        return {name: self._sum(terms, kept, len(genomes)) for name, terms in self._terms.items()}

    def _add(self, cost: str, factor: float, axes: Sequence[np.ndarray]) -> None:
        """Add a product of kept counts to a cost."""
        for parts in itertools.product(*(self._kept.axis(axis) for axis in axes)):
            # a product does not care for the order, and equal products are added up
            columns = tuple(sorted(column for _, of_part in parts for column in of_part))
            self._terms[cost][columns] += factor * math.prod(times for times, _ in parts)

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
