"""The rungs of successive halving, asynchronous: which trials count, and how many of them go on."""

from __future__ import annotations

import math


class Rungs:
    """Steps at which a new cut begins: `first`, `first * reduction`, `first * reduction**2` and so on. [P] Li
    et al. 2020 (ASHA)

    Of the trials that came as far as a rung, the best ``ceil(n / reduction)`` may go on, until the next rung.
    Trials that were stopped within a rung still count in its n. Otherwise every step would cut the survivors
    of the last one once more, and after four steps one trial in eighty would be left.

    Args:
        first: the smallest step at which a trial is judged; at least 1.
        reduction: larger than 1.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(self, first: int, reduction: float) -> None:
        if first < 1:
            raise ValueError(f"min_resource must be at least 1, but got {first}.")
        if not (1.0 < reduction < math.inf):
            raise ValueError(f"reduction must be larger than 1, but got {reduction}.")
        self.first = first
        self.reduction = reduction

    def start(self, step: int) -> float:
        """Return the step at which the rung of `step` begins; `step` is at least :attr:`first`."""
        start = float(self.first)
        while start * self.reduction <= step:
            start *= self.reduction
        return start

    def places(self, reached: int) -> int:
        """Return how many of `reached` trials go on: at least one."""
        return places(reached, self.reduction)


def places(reached: int, reduction: float) -> int:
    """Return ``ceil(reached / reduction)``, at least 1, blind to the last digit of the division."""
    return max(1, math.ceil(reached / reduction - 1e-9))
