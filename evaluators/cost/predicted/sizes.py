"""The sizes in a runtime's graph as functions of what a genome keeps, read off a few built models."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from evaluators.cost.kept import KeptCounts, Product
from spaces.channels.plan import SlicePlan

_BLOCKS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Size:
    """A number of an operation: the kept positions of an axis times a factor plus a constant, rounded up to
    blocks.

    Attributes:
        axis: number of the axis in :class:`AxisSizes`, -1 where the number is always the same.
        times: the factor.
        plus: the constant.
        block: what it is rounded up to a multiple of.
    """

    axis: int = -1
    times: Fraction = Fraction(1)
    plus: int = 0
    block: int = 1

    def __call__(self, kept: np.ndarray) -> np.ndarray:
        """Return the number for kept positions of the axis, int64 of their shape."""
        if self.axis < 0:
            return np.full(kept.shape, self.plus, dtype=np.int64)
        exact = kept * self.times.numerator // self.times.denominator + self.plus
        return np.asarray(-(-exact // self.block) * self.block)


class AxisSizes:
    """How many positions every axis of a plan keeps."""

    def __init__(self, plan: SlicePlan) -> None:
        self._kept = KeptCounts(plan)
        found: dict[tuple[Product, ...], int] = {}
        for axis in _axes(plan):
            terms = self._kept.axis(axis)
            single = [((1, (column,)),) for _, columns in terms for column in columns]
            for one in (tuple(terms), *single):
                found.setdefault(one, len(found))
        self._terms = list(found)

    def __call__(self, genomes: np.ndarray) -> np.ndarray:
        """Return the kept positions of every axis for keep bits ``(n, length)``, int64 ``(axes, n)``."""
        kept = np.ascontiguousarray(self._kept(genomes).T)
        sizes = np.zeros((len(self._terms), len(genomes)))
        for row, terms in zip(sizes, self._terms, strict=True):
            for times, columns in terms:
                row += times * math.prod(kept[column] for column in columns)
        return sizes.astype(np.int64)


def matched(numbers: np.ndarray, sizes: np.ndarray) -> Size | None:
    """Return the function that gives a number, seen in several models; None where no axis does.

    Args:
        numbers: one a model, int64 ``(models,)``.
        sizes: kept positions of every axis in these models, ``(axes, models)``.
    """
    if (numbers == numbers[0]).all():
        return Size(plus=int(numbers[0]))
    for block in _BLOCKS:
        found = np.flatnonzero((-(-sizes // block) * block == numbers).all(axis=1))
        if len(found):
            return Size(int(found[0]), block=block)
    for axis in np.flatnonzero((sizes != sizes[:, :1]).any(axis=1)):
        # the straight line through two models that differ has to go through all of them
        kept, other = sizes[axis], int(np.argmax(sizes[axis] != sizes[axis][0]))
        times = Fraction(int(numbers[other] - numbers[0]), int(kept[other] - kept[0]))
        plus = int(numbers[0]) - times * int(kept[0])
        size = Size(int(axis), times, int(plus))
        if times > 0 and plus.denominator == 1 and (size(kept) == numbers).all():
            return size
    return None


def _axes(plan: SlicePlan) -> Iterator[np.ndarray]:
    for tensor in plan.tensors:
        yield from (axis for axis in tensor.axes if axis is not None)
    for operation in plan.operations:
        yield from operation.axes
