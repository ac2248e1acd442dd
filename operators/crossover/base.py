"""Crossover: two parents, one child; a crossover writes ``_apply``."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from spaces.base import Space
from spaces.errors import require


class Crossover(ABC):
    """Joins genomes of two parents.

    Args:
        probability: share of the pairs that are crossed; for the others the child is a copy of the first
            parent.
    """

    def __init__(self, probability: float = 0.9) -> None:
        require(
            type(self).__name__, (0 <= probability <= 1, f"probability must be in 0 .. 1, got {probability}")
        )
        self.probability = probability

    def __call__(
        self, space: Space, first: np.ndarray, second: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Return one valid child a pair, ``(n, length)``, from parents of the same shape."""
        chosen = rng.random(len(first)) < self.probability
        children = first.copy()
        if chosen.any():
            children[chosen] = self._apply(space, first[chosen], second[chosen], rng)
        return space.repair(children)

    @abstractmethod
    def _apply(
        self, space: Space, first: np.ndarray, second: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Return children ``(n, length)``; validity is seen to by the caller."""
