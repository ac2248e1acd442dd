"""Only towards the end."""

from __future__ import annotations

from operators.schedules.base import Schedule
from spaces.errors import require


class FinalN(Schedule):
    """p in the last steps, else never. [P]

    Args:
        share: of the steps that are the last ones; a quarter as published.
    """

    def __init__(self, p: float = 0.5, share: float = 0.25) -> None:
        super().__init__(p)
        require(
            "schedule FinalN", (0 < share <= 1, f"share {share}; expected a number above 0 and at most 1")
        )
        self.share = share

    def probability(self, step: int, steps: int, population: int = 1) -> float:
        return self.p if step > steps * (1 - self.share) else 0.0
