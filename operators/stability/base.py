"""Rule: when operations of a supernet's edges may go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from operators.stability.history import EdgeHistory
from spaces.errors import InputError


class Rule(ABC):
    """Reads importances, and says which operations stay. It holds settings alone: all it knows comes with the
    call.

    A rule that ends a search at once keeps one operation on every edge. You write ``_keep``; the public call
    sees to it that nothing comes back, and that no edge falls empty.
    """

    needs: int = 1
    """Checks of an edge before the first removal; a search with fewer epochs after its warm-up cannot remove
    anything.
    """

    window: int = 5
    """Checks in a window of the divergences that are shown of a search."""

    def keep(
        self, epoch: int, epochs: int, edges: Mapping[str, EdgeHistory], rng: np.random.Generator
    ) -> dict[str, tuple[str, ...]]:
        """Return what stays active, for the edges that change alone: edge -> operations, in their old order,
        at least one.

        Args:
            epoch: that has just ended, from 1 to `epochs`.
            edges: the histories of all edges, this epoch's check included; without a check an edge keeps what
                it has.
            rng: for rules that draw; make it of the search's seed and the epoch, so that a resumed search
                draws alike.

        Raises:
            InputError: the rule keeps an operation that is not active, or none.
        """
        known = {
            edge: history for edge, history in edges.items() if history.checks and len(history.operations) > 1
        }
        changed = {}
        for edge, names in self._keep(epoch, epochs, known, rng).items():
            active = edges[edge].operations
            if not names or not set(names) <= set(active):
                found = ", ".join(names) or "nothing"
                raise InputError(
                    f"rule {type(self).__name__}: edge {edge!r} keeps {found}; expected some of "
                    f"{', '.join(active)}"
                )
            if len(set(names)) < len(active):
                changed[edge] = tuple(name for name in active if name in names)
        return changed

    def done(self, epoch: int, epochs: int, edges: Mapping[str, EdgeHistory]) -> bool:
        """Return whether the search may stop: every edge has one operation left (call it with what is left
        after ``keep``).
        """
        return all(len(history.operations) == 1 for history in edges.values())

    @abstractmethod
    def _keep(
        self, epoch: int, epochs: int, edges: Mapping[str, EdgeHistory], rng: np.random.Generator
    ) -> Mapping[str, tuple[str, ...]]:
        """Return what stays of the edges that change.

        Args:
            edges: those with a check and at least two operations.
        """
