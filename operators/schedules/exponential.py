"""Likely soon, then level."""

from __future__ import annotations

import math

from operators.schedules.base import Schedule


class Exponential(Schedule):
    """p (1 - exp(-2 t / T)) at step t of T. [P]"""

    def probability(self, step: int, steps: int, population: int = 1) -> float:
        return self.p * (1 - math.exp(-2 * step / steps))
