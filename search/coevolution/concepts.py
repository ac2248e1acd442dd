"""Solution concepts: the worth of an individual that met several partners."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np


class SolutionConcept(ABC):
    """Gives every encoder and every decoder a score, lower is better. [P] Popovici et al. 2012 for the
    notion.
    """

    @abstractmethod
    def _score(self, losses: np.ndarray) -> np.ndarray:
        """Return the scores ``(k,)`` of individuals from their losses with each partner ``(k, partners)``."""

    def __call__(self, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores of the encoders and of the decoders, each ``(k,)``, from the losses ``(k, k)`` of
        encoder i with decoder j.

        A loss that is not finite counts as worse than any other.
        """
        # so large that a mean of them is still finite
        losses = np.where(np.isfinite(losses), losses, np.finfo(np.float64).max / 1e6)
        return self._score(losses), self._score(losses.T)


class BestCase(SolutionConcept):
    """The loss with the best partner. [P]"""

    def _score(self, losses: np.ndarray) -> np.ndarray:
        return losses.min(axis=1)


class MeanCase(SolutionConcept):
    """The mean loss over all partners."""

    def _score(self, losses: np.ndarray) -> np.ndarray:
        return losses.mean(axis=1)


class WorstCase(SolutionConcept):
    """The loss with the worst partner: minimax."""

    def _score(self, losses: np.ndarray) -> np.ndarray:
        return losses.max(axis=1)
