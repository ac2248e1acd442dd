"""Uniform crossover."""

from __future__ import annotations

import numpy as np

from operators.crossover.base import Crossover
from spaces.base import Space
from spaces.errors import require


class Uniform(Crossover):
    """Takes every locus from either parent (Syswerda 1989) [P].

    Args:
        share: chance that a locus comes from the second parent.
        probability: share of the pairs that are crossed.
    """

    def __init__(self, share: float = 0.5, probability: float = 0.9) -> None:
        super().__init__(probability)
        require(type(self).__name__, (0 <= share <= 1, f"share must be in 0 .. 1, got {share}"))
        self.share = share

    def _apply(
        self, space: Space, first: np.ndarray, second: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        return np.where(rng.random(first.shape) < self.share, second, first)
