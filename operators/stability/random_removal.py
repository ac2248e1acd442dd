"""The control: operations go at given epochs, chosen at random."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from operators.stability.base import Rule
from operators.stability.history import EdgeHistory
from spaces.errors import InputError


class RandomRemoval(Rule):
    """Drops to given numbers of operations at given epochs, and draws which stay.

    On the schedule of another rule's search it costs the same, and tells what the importances are worth.

    Args:
        schedule: epoch -> number of operations kept, of every edge, or edge -> number for those that change.

    Raises:
        InputError: an epoch or a number below 1.
    """

    def __init__(self, schedule: Mapping[int, int | Mapping[str, int]]) -> None:
        for epoch, counts in schedule.items():
            numbers = counts.values() if isinstance(counts, Mapping) else [counts]
            if epoch < 1 or any(number < 1 for number in numbers):
                raise InputError(
                    f"rule RandomRemoval: {epoch}: {counts}; expected epochs and numbers of operations of "
                    f"at least 1"
                )
        self.schedule = schedule

    def _keep(
        self, epoch: int, epochs: int, edges: Mapping[str, EdgeHistory], rng: np.random.Generator
    ) -> Mapping[str, tuple[str, ...]]:
        counts = self.schedule.get(epoch, {})
        kept = {}
        # one draw an edge and operation, in alphabetical order: what is drawn depends on names alone
        for edge in sorted(edges):
            names = sorted(edges[edge].operations)
            drawn = rng.permutation(len(names))
            count = counts.get(edge, len(names)) if isinstance(counts, Mapping) else counts
            if count < len(names):
                kept[edge] = tuple(names[i] for i in drawn[:count])
        return kept
