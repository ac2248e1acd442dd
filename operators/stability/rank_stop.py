"""DARTS+: stop when no rank changes any more."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from operators.stability.base import Rule
from operators.stability.history import EdgeHistory
from spaces.errors import InputError


class RankStop(Rule):
    """Ends the search when the ranks of all operations of all edges have not changed for `patience` epochs.

    Source: the second criterion of DARTS+ (Liang et al. 2019, arXiv 1909.06035) [P]; its first, two skip
    connections in one cell, is not here, since an edge does not know its cell.

    Args:
        patience: epochs without a change; 10 as published.

    Raises:
        InputError: less than 1.
    """

    def __init__(self, patience: int = 10) -> None:
        if patience < 1:
            raise InputError(f"rule RankStop: patience {patience}; expected at least 1")
        self.patience = patience
        self.needs = patience + 1

    def _keep(
        self, epoch: int, epochs: int, edges: Mapping[str, EdgeHistory], rng: np.random.Generator
    ) -> Mapping[str, tuple[str, ...]]:
        return (
            {edge: history.best(1) for edge, history in edges.items()}
            if all(map(self._rests, edges.values()))
            else {}
        )

    def _rests(self, history: EdgeHistory) -> bool:
        ranks = np.argsort(-history.importances[-self.needs :], axis=1, kind="stable")
        return history.checks >= self.needs and bool((ranks == ranks[0]).all())
