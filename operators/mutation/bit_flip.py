"""The unguided mutation: every locus alike."""

from __future__ import annotations

import numpy as np

from operators.base import Guide
from operators.mutation.base import Mutation
from spaces.base import Space
from spaces.errors import InputError


class BitFlip(Mutation):
    """Gives each locus another allele with the same chance; where there are more than two, all others are
    equally likely.

    Source: the textbook mutation of genetic algorithms (Bäck 1996) [P].

    Args:
        rate: chance of each locus; None for 1 / length, one change a genome on average.
        probability: share of the genomes that are changed at all.
    """

    def __init__(self, rate: float | None = None, probability: float = 1.0) -> None:
        super().__init__(probability)
        if rate is not None and not 0 < rate <= 1:
            raise InputError(f"{type(self).__name__}: rate must be above 0 and at most 1, got {rate}")
        self.rate = rate

    def _apply(self, space: Space, genomes: np.ndarray, guide: Guide, rng: np.random.Generator) -> np.ndarray:
        changes = rng.random(genomes.shape) < (self.rate or 1 / space.length)
        steps = rng.integers(
            1, np.broadcast_to(space.choices, genomes.shape)
        )  # 1 .. choices - 1: never back to itself
        return np.where(changes, (genomes + steps) % space.choices, genomes).astype(genomes.dtype)
