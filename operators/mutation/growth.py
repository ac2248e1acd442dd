"""Mutation that makes a candidate a little larger."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from operators.base import Guide
from operators.draw import draw
from operators.mutation.base import Mutation
from spaces.base import Segment, Space
from spaces.errors import InputError, require


class Growth(Mutation):
    """One ordered choice goes up a level, or a few channels of one segment that are off come on; what is full
    already stays. [O]

    In the style of the network morphisms of Elsken et al. 2017 (arXiv 1711.04528) and 2019 (arXiv 1804.09081)
    [P], which make a network wider or deeper and keep what it computes: children of
    :class:`evaluators.InheritedTraining` begin as their parents' function, where that can be had. A choice is
    ordered whose alleles are numbers that rise (``Integer``, ``Float``, most of ``Choice``); segments are
    drawn alike among those that can grow, and channels alike within theirs.

    Args:
        span: up to this share of a segment's channels comes on (uniform), and one at least.
        probability: share of the genomes that are changed at all.

    Raises:
        InputError: when called for a space without keep bits or ordered choices.
    """

    alone = True

    def __init__(self, span: float = 0.1, probability: float = 1.0) -> None:
        super().__init__(probability)
        require(type(self).__name__, (0 < span <= 1, f"span must be above 0 and at most 1, got {span}"))
        self.span = span

    def _apply(self, space: Space, genomes: np.ndarray, guide: Guide, rng: np.random.Generator) -> np.ndarray:
        parts = growing(space)
        if not parts:
            raise InputError(
                f"{type(self).__name__}: the space has no keep bits and no choices of numbers that rise; "
                f"use BitFlip"
            )
        room = genomes < space.choices - 1
        chosen = draw(
            np.stack([room[:, part].any(axis=1) for part in parts], axis=1) * 1.0, np.ones(len(genomes)), rng
        )
        for column in np.flatnonzero(chosen.any(axis=0)):
            rows, part = np.flatnonzero(chosen[:, column]), parts[column]
            amount = np.ceil(rng.uniform(0, self.span, len(rows)) * (part.stop - part.start)).clip(1)
            genomes[rows, part] += draw(room[rows, part] * 1.0, amount, rng)
        return genomes


def growing(space: Space) -> list[slice]:
    """Return where the segments lie whose alleles have an order: keep bits, and single choices of numbers
    that rise.
    """
    return [
        part
        for segment, part in zip(space.segments, space.slices.values(), strict=True)
        if _rises(space, segment)
    ]


def _rises(space: Space, segment: Segment) -> bool:
    values = space.alleles.get(segment.name)
    if values is None:
        return segment.choices == 2
    numbers = [value for value in values if isinstance(value, int | float)]
    return (
        segment.size == 1
        and len(numbers) == len(values)
        and all(low < high for low, high in pairwise(numbers))
    )
