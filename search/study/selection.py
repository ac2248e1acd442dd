"""Which trials of a large run are shown: its view stays small in memory and on the disk."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 10_000
"""Trials that a study holds at most: a dashboard is slow beyond, and 200,000 would take a gigabyte."""
LOG_BYTES = 20 * 2**20
"""Largest journal of a study; in memory it takes some four times as much."""
NEWEST = 500
"""Latest trials that are shown at the end of a run."""


class Selection:
    """An even sample of the evaluations by their numbers, beside what is shown anyway.

    A sample takes every so many, a power of two, so that a thinner one is part of a denser one: what is
    written stays, and nothing depends on when the process looked.

    Args:
        most: trials that may be shown in all; the sample and the front take up to half of them each.

    Attributes:
        every: one in so many is in the sample; 1: all are shown.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.every = 1

    def fit(self, total: int) -> None:
        """Take so many that of `total` evaluations no more than half of the room is filled, and never more
        than before; all as long as there is room for all.
        """
        while total > self.most and total / self.every > self.most / 2:
            self.every *= 2

    def thin(self) -> None:
        """Take half as many."""
        self.every *= 2

    def halve(self) -> None:
        """Show half as many trials in all: they are larger than expected."""
        self.most = max(16, self.most // 2)
        self.thin()

    def holds(self, seq: int) -> bool:
        """Whether the evaluation of a number is in the sample."""
        return seq % self.every == 0

    def of_front(self, members: Sequence[int]) -> list[int]:
        """Return which members of a front are shown, by their numbers: all, or as many as there is room for,
        evenly.
        """
        room = max(1, self.most // 2)
        if self.every == 1 or len(members) <= room:
            return list(members)
        step = len(members) / room
        return [members[int(place * step)] for place in range(room)]
