"""What runs cell steps, and what every such grid promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from evaluators.base import Evaluation
from search.coevolution.cell import CellStep


@dataclass(frozen=True, eq=False)
class Stepped:
    """A cell step is done, or could not be done by no fault of its own: then there is a reason instead of an
    evaluation.

    Attributes:
        lost: the reason.
        with_node: a node is gone, which says nothing about the work.
    """

    id: int
    evaluation: Evaluation | None
    lost: str = ""
    with_node: bool = False


class Grid(Protocol):
    """Runs a graph of cell steps: each one as soon as those that it needs are done, in any order, with
    results that do not depend on it.

    Steps are known by the ids of their candidates. States stay where they are; only evaluations come to the
    caller.
    """

    @property
    def capacity(self) -> int:
        """How many steps it runs at once."""

    def start(self, work: CellStep) -> None:
        """Get ready; again after something was lost: then nothing is left of what was submitted."""

    def restore(self, id: int, content: bytes) -> None:
        """Take in a state that was kept on disk."""

    def submit(self, id: int, needs: Sequence[int]) -> None:
        """Take in a step; what it needs has been submitted or restored before. Returns at once."""

    def forget(self, id: int) -> None:
        """Let go of a state that no further step needs."""

    def events(self, timeout: float | None = None) -> list[Stepped]:
        """Return what is done since the last call; waits for at least one, but no longer than `timeout`
        seconds.
        """

    def close(self) -> None:
        """Give up what is under way."""
