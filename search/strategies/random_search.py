"""Random search: the control of every strategy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evaluators.base import Candidate, Evaluation
from operators.initialisation import Initialisation
from search.problem import Problem
from search.strategies.parts import Parts
from search.strategies.proposals import Proposal, default_initialisation, initial
from search.strategies.screening import Screening
from search.strategy import Strategy


class RandomSearch(Strategy):
    """Asks the base genome, then independent draws of an initialisation, screened and without duplicates as
    in evolution.

    Args:
        initialisation: by default that of :class:`~search.strategies.evolution.Evolution`.
        redraws: how often a duplicate or infeasible genome is drawn again before it is mended.
    """

    def __init__(self, initialisation: Initialisation | None = None, redraws: int = 4) -> None:
        self.initialisation, self.redraws = initialisation, redraws

    def start(self, problem: Problem, seed: int) -> None:
        super().start(problem, seed)
        self._screening = Screening(problem, self.rng, self.redraws)
        chosen = self.initialisation or default_initialisation(problem.space, problem.guide)
        self._draw, self._parts = initial(problem, chosen, self.rng), Parts([chosen])

    def ask(self, n: int) -> list[Candidate]:
        proposals: list[Proposal] = []
        base = self.problem.space.base
        if self._asked == 0 and n and base is not None and self._screening.admit(base):
            proposals.append(Proposal(base, operator="base"))
        proposals += self._screening.take(n - len(proposals), self._draw)
        return [self._candidate(p.genome.copy(), p.parents, p.operator) for p in proposals]

    def state(self) -> dict[str, Any] | None:
        if (parts := self._parts.state()) is None:
            return None
        return self._counters() | {"screening": self._screening.state(), "parts": parts}

    def restore(self, state: dict[str, Any]) -> None:
        self._set_counters(state)
        self._screening.restore(state["screening"])
        self._parts.restore(state["parts"])

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Learn nothing."""
