"""Mutation: the public call handles batch, probability and repair; a mutation writes ``_apply``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import numpy as np

from operators.base import Guide
from spaces.base import Space
from spaces.errors import require


class Mutation(ABC):
    """Changes genomes a little.

    Args:
        probability: share of the genomes that are changed at all; the others come back as they are.

    Attributes:
        amount: how much one event takes, where a schedule or a controller may set it; None: there is no such
            setting.
        counts: what `amount` is a share of where a schedule sets it: ``loci`` that are kept, or ``params``.
        kept_by_floor: how many loci the last call kept so that no segment became empty.
    """

    needs: tuple[str, ...] = ()
    """Names of the guide's entries without which the mutation cannot work."""
    alone: bool = False
    """Whether its child has one parent: it changes the first parent's genome, not what a crossover made of
    two.
    """

    amount: float | None = None
    counts: Literal["loci", "params"] = "loci"
    kept_by_floor: int = 0

    def __init__(self, probability: float = 1.0) -> None:
        require(
            type(self).__name__, (0 <= probability <= 1, f"probability must be in 0 .. 1, got {probability}")
        )
        self.probability = probability

    def __call__(
        self, space: Space, genomes: np.ndarray, guide: Guide, rng: np.random.Generator
    ) -> np.ndarray:
        """Return changed, valid copies of `genomes`, ``(n, length)``; the originals stay as they are."""
        chosen = rng.random(len(genomes)) < self.probability
        changed = genomes.copy()
        if chosen.any():
            rows = {
                name
                for name, array in guide.items()
                if array.ndim > 2 or (array.ndim == 2 and len(array) == len(genomes))
            }
            part = {name: array[chosen] if name in rows else array for name, array in guide.items()}
            changed[chosen] = self._apply(space, genomes[chosen].copy(), part, rng)
        return space.repair(changed)

    @abstractmethod
    def _apply(self, space: Space, genomes: np.ndarray, guide: Guide, rng: np.random.Generator) -> np.ndarray:
        """Return changed genomes ``(n, length)``; `genomes` may be changed in place, validity is seen to by
        the caller.
        """
