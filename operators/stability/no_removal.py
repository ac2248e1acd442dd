"""No removal: a search of full length."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from operators.stability.base import Rule
from operators.stability.history import EdgeHistory


class NoRemoval(Rule):
    """Removes nothing: every epoch is paid for in full, and the last one's importances decide. The control of
    all rules.
    """

    def done(self, epoch: int, epochs: int, edges: Mapping[str, EdgeHistory]) -> bool:
        """Only the last epoch ends it."""
        return epoch >= epochs

    def _keep(
        self, epoch: int, epochs: int, edges: Mapping[str, EdgeHistory], rng: np.random.Generator
    ) -> Mapping[str, tuple[str, ...]]:
        return {}
