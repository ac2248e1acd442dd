"""What guided mutations share: scores say which keep bits flip."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from operators.base import Guide
from operators.draw import draw
from operators.mutation.base import Mutation
from spaces.base import Space
from spaces.errors import InputError, require

FLOOR = 0.05
"""Added to every rank, so that the best channel can go and the worst can come back: no genome is out of
reach.
"""


class Guided(Mutation):
    """Flips kept loci with low scores off and dropped ones with high scores on; a guided mutation writes
    ``_ranks``. [O]

    The number of flips of a genome is that of a bit flip at the same rate, but at least 1. A share of them,
    drawn afresh for every genome, goes off and the rest on, so that some children shrink, some grow, and some
    swap channels at equal size; at most half of what is kept goes and at most half of what is dropped
    returns. Which loci is a weighted draw without replacement, by ranks within the segment, so that the
    scales of layers do not matter. Loci with more than two choices stay.

    Args:
        rate: expected flips as a share of the keep bits.
        pressure: weights are ranks to this power; 0 ignores the scores.
        probability: share of the genomes that are changed at all.
    """

    def __init__(self, rate: float = 0.03, pressure: float = 2.0, probability: float = 1.0) -> None:
        super().__init__(probability)
        require(
            type(self).__name__,
            (0 < rate <= 1, f"rate must be above 0 and at most 1, got {rate}"),
            (pressure >= 0, f"pressure must be at least 0, got {pressure}"),
        )
        self.rate, self.pressure = rate, pressure

    def _apply(self, space: Space, genomes: np.ndarray, guide: Guide, rng: np.random.Generator) -> np.ndarray:
        bits = keep_bits(space, self)
        kept, dropped = (genomes == 1) & bits, (genomes == 0) & bits
        off_weights, on_weights = flip_weights(self._ranks(space, genomes, guide, rng), self.pressure)
        flips = np.maximum(rng.binomial(bits.sum(), self.rate, size=len(genomes)), 1)
        on = np.minimum(rng.binomial(flips, rng.random(len(genomes))), (dropped.sum(axis=1) + 1) // 2)
        off = np.minimum(flips - on, (kept.sum(axis=1) + 1) // 2)
        return genomes ^ (draw(kept * off_weights, off, rng) | draw(dropped * on_weights, on, rng))

    @abstractmethod
    def _ranks(self, space: Space, genomes: np.ndarray, guide: Guide, rng: np.random.Generator) -> np.ndarray:
        """Return what each channel is worth within its segment, 0 .. 1, ``(n, length)`` (see
        :func:`operators.ranks.segment_ranks`).
        """


def flip_weights(ranks: np.ndarray, pressure: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of going off and of coming on, both positive and of the shape of `ranks`."""
    return (1 - ranks + FLOOR) ** pressure, (ranks + FLOOR) ** pressure


def keep_bits(space: Space, operator: object) -> np.ndarray:
    """Return which loci are keep bits, bool of shape ``(length,)``; raise :class:`InputError` where there are
    none.
    """
    bits = space.choices == 2
    if not bits.any():
        raise InputError(
            f"{type(operator).__name__}: the space has no keep bits (segments with 2 choices); use BitFlip"
        )
    return bits


def entry(guide: Guide, name: str, operator: object) -> np.ndarray:
    """Return an entry of the guide; raise :class:`InputError`, naming those there are, where it
    is missing.
    """
    if name not in guide:
        known = ", ".join(sorted(guide)) or "nothing"
        raise InputError(f"{type(operator).__name__}: the guide has no scores {name!r}; it has {known}")
    return guide[name]
