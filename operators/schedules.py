"""When pruning happens: the chance of an event at each step of a run."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from spaces.errors import require

__path__: list[str] = []  # it was a folder: its former modules can be imported for one version


class Schedule(ABC):
    """Says how likely a pruning event is.

    The schedules here are those of "activation-guided mutation" (GECCO 2025, doi 10.1145/3712256.3726449), by
    METHODS 2; its runs have p = .5 (.1 for VARIANCE). [P]

    Args:
        p: the chance that the schedule is made of, 0 .. 1.

    Raises:
        InputError: p beyond that.
    """

    def __init__(self, p: float = 0.5) -> None:
        require(f"schedule {type(self).__name__}", (0 <= p <= 1, f"p {p}; expected a probability of 0 to 1"))
        self.p = p

    @abstractmethod
    def probability(self, step: int, steps: int, population: int = 1) -> float:
        """Return the chance of an event, 0 .. 1.

        Args:
            step: which, from 1 to `steps`.
            steps: of the whole run.
            population: number of individuals that draw at every step.
        """


class Never(Schedule):
    """No event, ever: the control of every comparison."""

    def __init__(self) -> None:
        super().__init__(0.0)

    def probability(self, step: int, steps: int, population: int = 1) -> float:
        return 0.0


class Fixed(Schedule):
    """p at every step. [P]"""

    def probability(self, step: int, steps: int, population: int = 1) -> float:
        return self.p


class Increase(Schedule):
    """p t / T at step t of T. [P]"""

    def probability(self, step: int, steps: int, population: int = 1) -> float:
        return self.p * step / steps


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


class Exponential(Schedule):
    """p (1 - exp(-2 t / T)) at step t of T. [P]"""

    def probability(self, step: int, steps: int, population: int = 1) -> float:
        return self.p * (1 - math.exp(-2 * step / steps))


class Population(Schedule):
    """p t / (T n) at step t of T, for n individuals. [P]"""

    def probability(self, step: int, steps: int, population: int = 1) -> float:
        return self.p * step / (steps * population)


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


class PruneAfter(Schedule):
    """p at the last step, else never. [P]"""

    def probability(self, step: int, steps: int, population: int = 1) -> float:
        return self.p if step == steps else 0.0
