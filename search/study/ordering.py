"""In which order trials are written: a trial has the number of its candidate."""

from __future__ import annotations

import time

from search.record.ledger_store import EvaluationRow

PATIENCE = 2.0
"""Seconds that an evaluation waits for those that were asked before it."""


class InOrder:
    """Holds evaluations until all that were asked before them have come, or for :data:`PATIENCE` seconds:
    then trials that are running keep the places of those.
    """

    def __init__(self) -> None:
        self._held: dict[int, EvaluationRow] = {}
        self._moved = time.monotonic()

    def add(self, row: EvaluationRow) -> None:
        """Take an evaluation."""
        self._held[row.candidate.id] = row

    def ready(self, following: int, all_of_them: bool = False) -> list[EvaluationRow]:
        """Return those to be written now, in the order of their candidates.

        Args:
            following: the number of the next trial.
            all_of_them: whether nothing is waited for any more.
        """
        found = []
        for id in sorted(self._held):
            if id > following and not all_of_them and not self._is_late:
                break
            found.append(self._held.pop(id))
            following = max(following, id + 1)
        if found or not self._held:
            self._moved = time.monotonic()
        return found

    @property
    def _is_late(self) -> bool:
        return time.monotonic() - self._moved > PATIENCE
