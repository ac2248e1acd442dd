"""No pruning at all."""

from __future__ import annotations

from operators.schedules.base import Schedule


class Never(Schedule):
    """No event, ever: the control of every comparison."""

    def __init__(self) -> None:
        super().__init__(0.0)

    def probability(self, step: int, steps: int, population: int = 1) -> float:
        return 0.0
