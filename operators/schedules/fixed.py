"""The same chance at every step."""

from __future__ import annotations

from operators.schedules.base import Schedule


class Fixed(Schedule):
    """p at every step. [P]"""

    def probability(self, step: int, steps: int, population: int = 1) -> float:
        return self.p
