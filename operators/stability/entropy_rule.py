"""An edge is settled when its importances are sharp enough."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from operators.stability.base import Rule
from operators.stability.divergence import entropy
from operators.stability.history import EdgeHistory
from spaces.errors import require


class Entropy(Rule):
    """An edge keeps its best operation when the entropy of its importances falls below a share of the largest
    possible. [O]

    Args:
        threshold: that share, 0 .. 1; importances near to equal have 1.

    Raises:
        InputError: a threshold beyond that.
    """

    def __init__(self, threshold: float = 0.9) -> None:
        require("rule Entropy", (0 <= threshold <= 1, f"threshold {threshold}; expected a share of 0 to 1"))
        self.threshold = threshold

    def _keep(
        self, epoch: int, epochs: int, edges: Mapping[str, EdgeHistory], rng: np.random.Generator
    ) -> Mapping[str, tuple[str, ...]]:
        sharp = {
            e: h
            for e, h in edges.items()
            if entropy(h.importances[-1]) < self.threshold * np.log2(len(h.operations))
        }
        return {edge: history.best(1) for edge, history in sharp.items()}
