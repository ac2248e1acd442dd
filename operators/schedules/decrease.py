"""Less and less likely."""

from __future__ import annotations

from operators.schedules.base import Schedule


class Decrease(Schedule):
    """p (1 - t / T) at step t of T. [P]

    Args:
        as_published: 1 - t / T; the paper's code forgets p.
    """

    def __init__(self, p: float = 0.5, as_published: bool = False) -> None:
        super().__init__(p)
        self.as_published = as_published

    def probability(self, step: int, steps: int, population: int = 1) -> float:
        return (1.0 if self.as_published else self.p) * (1 - step / steps)
