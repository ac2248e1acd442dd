"""Why a search ended. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

NOTE = "ended"
"""Key of the note in the ledger."""


class EndingKind(StrEnum):
    """What ended a search: a limit of its budget, its strategy, somebody, or a fault."""

    EVALUATIONS = "evaluations"
    SECONDS = "seconds"
    STALL = "stall"
    EPOCHS = "epochs"
    TARGET = "target"
    """A candidate is as good as was asked for; the detail says which."""
    EXHAUSTED = "exhausted"
    """The strategy asks nothing more."""
    STEPS = "steps"
    """All cells of a coevolution have done their steps."""
    INTERRUPTED = "interrupted"
    FAILURES = "failures"
    """Most of the first candidates failed; the detail is the commonest reason."""
    DISK_FULL = "disk full"


_UNFINISHED = (EndingKind.INTERRUPTED, EndingKind.FAILURES, EndingKind.DISK_FULL)
_ORDERLY = (
    EndingKind.EVALUATIONS,
    EndingKind.STALL,
    EndingKind.EPOCHS,
    EndingKind.TARGET,
    EndingKind.EXHAUSTED,
)


@dataclass(frozen=True)
class Ending:
    """Why a search ended; as text it is the kind, or ``kind: detail``.

    Attributes:
        kind: of the end.
        detail: one line for people, where there is more to say.
    """

    kind: EndingKind
    detail: str = ""

    @classmethod
    def parse(cls, text: str) -> Ending:
        """Return the ending that is written like this; what no version wrote counts as interrupted."""
        kind, _, detail = text.partition(": ")
        try:
            return cls(EndingKind(kind), detail)
        except ValueError:
            return cls(EndingKind.INTERRUPTED, text)

    @classmethod
    def read(cls, note: Callable[[str], Any]) -> Ending | None:
        """Return the ending that a ledger has, None where its search has not ended yet.

        Args:
            note: gives the value of a note of the ledger. Some old versions kept the text beside the budget.
        """
        value = note(NOTE)
        text = value.get("reason") if isinstance(value, dict) else value
        return cls.parse(text) if text else None

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else str(self.kind)

    @property
    def unfinished(self) -> bool:
        """Whether the same call goes on where this one ended."""
        return self.kind in _UNFINISHED

    @property
    def lasting(self) -> bool:
        """Whether a limit was reached or nothing was left to ask."""
        return not self.unfinished

    @property
    def advice(self) -> str:
        """What to do about it, in words that go on a sentence; empty where nothing is to be done."""
        return (
            "mend the cause and run the same command again: what failed is tried again"
            if self.kind is EndingKind.FAILURES
            else ""
        )

    @property
    def faulty(self) -> bool:
        """Whether something is wrong that a person has to see to."""
        return self.kind in (EndingKind.FAILURES, EndingKind.DISK_FULL)

    @property
    def orderly(self) -> bool:
        """Whether everything that was asked is still finished."""
        return self.kind in _ORDERLY
