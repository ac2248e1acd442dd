"""All edges are decided at one epoch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from operators.stability.base import Rule
from operators.stability.history import EdgeHistory
from spaces.errors import require


class FixedStop(Rule):
    """At one epoch every edge keeps its best operations; with one of each the search is over.

    The paper's own observation as a rule: final operations are among the best 3 of their edge by about epoch
    45 (arXiv 2604.14849).

    Args:
        epoch: when, from 1; where an edge has no check by then (warm-up), at its first.
        keep: operations that stay; what is left of a search with more is paid for to the last epoch.

    Raises:
        InputError: less than 1 of either.
    """

    def __init__(self, epoch: int = 45, keep: int = 1) -> None:
        require(
            "rule FixedStop",
            (epoch >= 1, f"epoch {epoch}; expected at least 1"),
            (keep >= 1, f"keep {keep}; expected at least 1"),
        )
        self.epoch, self.keep_best = epoch, keep

    def settings(self) -> dict[str, int]:
        """Return the arguments that it was constructed with."""
        return {"epoch": self.epoch, "keep": self.keep_best}

    def _keep(
        self, epoch: int, epochs: int, edges: Mapping[str, EdgeHistory], rng: np.random.Generator
    ) -> Mapping[str, tuple[str, ...]]:
        return (
            {edge: history.best(self.keep_best) for edge, history in edges.items()}
            if epoch >= self.epoch
            else {}
        )
