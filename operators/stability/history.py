"""What an edge's operations were worth, check by check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EdgeHistory:
    """The importances of one edge's operations since the end of warm-up, or since its last removal.

    Attributes:
        operations: names of those still active; "none" is left out.
        importances: softmax over them, ``(checks, operations)``, float64, one row a check (an epoch), the
            newest last.
    """

    operations: tuple[str, ...]
    importances: np.ndarray

    @property
    def checks(self) -> int:
        return len(self.importances)

    def best(self, count: int, row: np.ndarray | None = None) -> tuple[str, ...]:
        """Return the `count` operations of the highest importance, in the order of ``operations``.

        Ties go to the name that comes first in the alphabet, so that an answer does not depend on the order
        of the operations.

        Args:
            row: the importances to go by, ``(operations,)``; the last check's where not given.
        """
        values = self.importances[-1] if row is None else row
        order = sorted(range(len(self.operations)), key=lambda i: (-values[i], self.operations[i]))
        chosen = set(order[:count])
        return tuple(name for i, name in enumerate(self.operations) if i in chosen)


class Histories:
    """The histories of all edges of a search: rows come in, and an edge that lost an operation
    starts anew.
    """

    def __init__(self) -> None:
        self._operations: dict[str, tuple[str, ...]] = {}
        self._rows: dict[str, list[np.ndarray]] = {}

    def record(self, edge: str, operations: Sequence[str], importances: Sequence[float] | np.ndarray) -> None:
        """Add a check of one edge. Other operations than at the last check: what was known of the edge is
        forgotten.

        Args:
            importances: at least 0, one an operation; scaled to the sum 1, so "none" may simply be left out.

        Raises:
            ValueError: one importance an operation is not what was given, or they are not finite, negative or
                all 0.
        """
        row = np.asarray(importances, dtype=np.float64)
        if row.shape != (len(operations),) or not np.isfinite(row).all() or (row < 0).any() or row.sum() <= 0:
            raise ValueError(f"edge {edge!r}: importances {row.tolist()} of {len(operations)} operations")
        if self._operations.get(edge) != tuple(operations):
            self._operations[edge] = tuple(operations)
            self._rows[edge] = []
        self._rows[edge].append(row / row.sum())

    def reset(self, edge: str, operations: Sequence[str]) -> None:
        """Start one edge anew with these operations."""
        self._operations[edge] = tuple(operations)
        self._rows[edge] = []

    @property
    def edges(self) -> dict[str, EdgeHistory]:
        """The histories by the names of the edges."""
        return {edge: EdgeHistory(names, self._table(edge)) for edge, names in self._operations.items()}

    def state(self) -> dict[str, dict[str, list]]:
        """Return all of it as plain lists, for JSON."""
        return {
            edge: {"operations": list(h.operations), "importances": h.importances.tolist()}
            for edge, h in self.edges.items()
        }

    @classmethod
    def of(cls, state: Mapping[str, Mapping[str, list]]) -> Histories:
        """Return what ``state`` gave; floats come back bit by bit."""
        histories = cls()
        for edge, held in state.items():
            histories.reset(edge, held["operations"])
            histories._rows[edge] = [np.asarray(row, dtype=np.float64) for row in held["importances"]]
        return histories

    def _table(self, edge: str) -> np.ndarray:
        rows = self._rows[edge]
        return np.stack(rows) if rows else np.empty((0, len(self._operations[edge])))
