"""Random search: the control of every strategy."""

from __future__ import annotations

from collections.abc import Sequence

from evaluators.base import Candidate, Evaluation
from operators.initialisation import Initialisation
from search.problem import Problem
from search.strategies.proposals import Proposal, initial
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
        self._draw = initial(problem, self.initialisation, self.rng)

    def ask(self, n: int) -> list[Candidate]:
        proposals: list[Proposal] = []
        base = self.problem.space.base
        if self._asked == 0 and n and base is not None and self._screening.admit(base):
            proposals.append(Proposal(base, operator="base"))
        proposals += self._screening.take(n - len(proposals), self._draw)
        return [self._candidate(p.genome.copy(), p.parents, p.operator) for p in proposals]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Learn nothing."""
