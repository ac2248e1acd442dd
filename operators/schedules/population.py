"""Rarer the more individuals there are."""

from __future__ import annotations

from operators.schedules.base import Schedule


class Population(Schedule):
    """p t / (T n) at step t of T, for n individuals. [P]"""

    def probability(self, step: int, steps: int, population: int = 1) -> float:
        return self.p * step / (steps * population)
