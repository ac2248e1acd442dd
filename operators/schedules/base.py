"""Schedule: a chance for every step."""

from __future__ import annotations

from abc import ABC, abstractmethod

from spaces.errors import require


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
