"""What chooses among many children before any of them is evaluated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluators.base import Candidate, Evaluation
from search.problem import Problem
from search.strategies.proposals import Draw


class Preselection(ABC):
    """Pre-selection of offspring by a model of earlier results (Jin 2011 [P]): it hears of everything that is
    asked and told, and turns a draw of children into a draw of promising ones.
    """

    def start(self, problem: Problem, rng: np.random.Generator) -> None:
        """Receive the problem, and the generator of the strategy, before anything is told."""
        self.problem, self.rng = problem, rng

    @abstractmethod
    def over(self, children: Draw, samples: Draw) -> Draw:
        """Return a draw of the more promising of many.

        Args:
            children: draws children of the population.
            samples: draws what a search begins with.
        """

    @abstractmethod
    def asked(self, candidates: Sequence[Candidate]) -> None:
        """Hear of new candidates that will be evaluated."""

    @abstractmethod
    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Take in what became of them."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return all that is known, as plain data: see :meth:`search.Strategy.state`."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state, after :meth:`start`."""
