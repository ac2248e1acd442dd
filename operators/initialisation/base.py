"""Initialisation: where a search begins; an initialisation writes ``_draw``."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from operators.base import Guide
from spaces.base import Space
from spaces.errors import InputError


class Initialisation(ABC):
    """Draws the first genomes.

    Attributes:
        checks: whether it has to see the space before a search begins.
    """

    checks: bool = False

    def check(self, space: Space) -> None:
        """See that it fits a space, before there is anything of a run.

        Raises:
            InputError: it does not.
        """
        return

    def __call__(self, space: Space, n: int, guide: Guide, rng: np.random.Generator) -> np.ndarray:
        """Return `n` valid genomes ``(n, length)``; equal ones happen."""
        return space.repair(self._draw(space, n, guide, rng))

    def at_hand(self, space: Space, rng: np.random.Generator) -> int:
        """Return how many genomes it still gives before it draws any at random: a first generation has room
        for all of them.
        """
        return 0

    @abstractmethod
    def _draw(self, space: Space, n: int, guide: Guide, rng: np.random.Generator) -> np.ndarray:
        """Return genomes ``(n, length)``, uint8 below the choices of their loci; validity beyond that is seen
        to by the caller.
        """


def keep_range(min_keep: float, max_keep: float) -> tuple[float, float]:
    """Return both bounds of a keep share; raise :class:`InputError` unless
    ``0 <= min_keep <= max_keep <= 1``.
    """
    if not 0 <= min_keep <= max_keep <= 1:
        raise InputError(
            f"keep share: expected 0 <= min_keep <= max_keep <= 1, got {min_keep} and {max_keep}"
        )
    return min_keep, max_keep
