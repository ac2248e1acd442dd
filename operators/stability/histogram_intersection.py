"""SGAS: one edge at a time, the most certain and most stable first."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from operators.stability.base import Rule
from operators.stability.divergence import entropy, intersection
from operators.stability.history import EdgeHistory
from spaces.errors import require


class HistogramIntersection(Rule):
    """Every `interval` epochs the edge with the best product of certainty and stability keeps its best
    operation alone.

    Source: criterion 2 of SGAS (Li et al. 2020, arXiv 1912.00195): certainty is 1 minus the entropy's share
    of its maximum, stability the mean histogram intersection of now with each of the last `history` epochs,
    both scaled to 0 .. 1 over the edges. [P] Its third factor, the importance of an edge (how little "none"
    weighs), is left out, as "none" is no operation of a history, and edges are not cut when a node has inputs
    enough. [R]

    Args:
        history: epochs looked back on; 4 as published.
        interval: epochs between two decisions; 5 as published. The last edge is decided after that many times
            the number of edges.

    Raises:
        InputError: less than 1 of either.
    """

    def __init__(self, history: int = 4, interval: int = 5) -> None:
        require(
            "rule HistogramIntersection",
            (history >= 1, f"history {history}; expected at least 1"),
            (interval >= 1, f"interval {interval}; expected at least 1"),
        )
        self.history, self.interval = history, interval
        self.needs = history + 1

    def _keep(
        self, epoch: int, epochs: int, edges: Mapping[str, EdgeHistory], rng: np.random.Generator
    ) -> Mapping[str, tuple[str, ...]]:
        ready = {edge: edges[edge] for edge in sorted(edges) if edges[edge].checks >= self.needs}
        if epoch % self.interval or not ready:
            return {}
        certain = _scaled(
            [1 - entropy(h.importances[-1]) / np.log2(len(h.operations)) for h in ready.values()]
        )
        stable = _scaled(
            [intersection(h.importances[-self.needs : -1], h.importances[-1]).mean() for h in ready.values()]
        )
        edge = list(ready)[int(np.argmax(certain * stable))]
        return {edge: ready[edge].best(1)}


def _scaled(values: list[float]) -> np.ndarray:
    """Return values scaled to 0 .. 1; all 1 where they are equal."""
    array = np.array(values, dtype=np.float64)
    spread = array.max() - array.min()
    return (array - array.min()) / spread if spread > 0 else np.ones_like(array)
