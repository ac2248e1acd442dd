"""A strategy's answer that a running candidate is to be stopped."""

from __future__ import annotations

from dataclasses import dataclass

from evaluators.base import Cause


@dataclass(frozen=True)
class Stop:
    """Why a running candidate is stopped.

    Attributes:
        reason: one line for people.
        cause: the same as one of a few.
    """

    reason: str = ""
    cause: Cause = Cause.STOPPED

    @classmethod
    def of(cls, answer: bool | str | Stop) -> Stop | None:
        """Return what a strategy's answer means: true or a text stop a candidate, a text says why."""
        if not answer or isinstance(answer, Stop):
            return answer or None
        return cls(answer if isinstance(answer, str) else "")
