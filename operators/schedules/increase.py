"""More and more likely."""

from __future__ import annotations

from operators.schedules.base import Schedule


class Increase(Schedule):
    """p t / T at step t of T. [P]"""

    def probability(self, step: int, steps: int, population: int = 1) -> float:
        return self.p * step / steps
