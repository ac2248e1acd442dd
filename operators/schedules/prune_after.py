"""Once the training is over."""

from __future__ import annotations

from operators.schedules.base import Schedule


class PruneAfter(Schedule):
    """p at the last step, else never. [P]"""

    def probability(self, step: int, steps: int, population: int = 1) -> float:
        return self.p if step == steps else 0.0
