"""Ask and tell: how a search proposes candidates and learns from their evaluations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from evaluators.base import Candidate, Evaluation, Report
from search.problem import Problem


def candidate_seed(seed: int, id: int) -> int:
    """The seed of a candidate: 63 bits from ``SeedSequence((run seed, candidate id))``."""
    return int(np.random.SeedSequence((seed, id)).generate_state(1, np.uint64)[0] >> np.uint64(1))


class Strategy(ABC):
    """Proposes candidates, learns from evaluations.

    It must be a function of its arguments, the seed and the order of the calls alone: on resume it is
    replayed.

    Attributes:
        monitor: metric, or sum of metrics, that it watches while candidates run; None: it watches none.
    """

    monitor: str | None = None
    problem: Problem
    seed: int
    rng: np.random.Generator

    def start(self, problem: Problem, seed: int) -> None:
        """Receive the problem; called once, before the first :meth:`ask`."""
        self.problem, self.seed, self._asked = problem, seed, 0
        self.rng = np.random.default_rng(np.random.SeedSequence((seed, 2**32)))

    @abstractmethod
    def ask(self, n: int) -> list[Candidate]:
        """Return at most `n` new candidates; fewer, or none, when the space is exhausted."""

    @property
    def waiting(self) -> bool:
        """Whether :meth:`ask` may give more than it just gave when something open has been told; without it,
        nothing asked is the end.
        """
        return False

    @abstractmethod
    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Learn from results, failed ones included, in an order that the loop fixes."""

    def cells(self) -> tuple[int, list[list[int]]]:
        """Return how many cells evolve beside each other, and which of them meet, pairs of their numbers; 0
        where there are no cells.
        """
        return 0, []

    def heirs(self) -> set[int] | None:
        """Return the ids of those told who may still become parents, or None where that may be anybody.

        What others left to children is deleted, so that a long search with inherited weights does not fill
        the disk.
        """
        return None

    def should_stop(self, candidate: Candidate, report: Report) -> bool | str:
        """Whether a running candidate is to be pruned after this report; a text says yes, and why.

        Where a worker was lost the reports of a candidate come once more, from the first one on.
        """
        return False

    def recall(self, candidate: Candidate, reports: Sequence[Report]) -> None:
        """Hear, on resume, the reports that a finished candidate gave: told between its :meth:`ask` and its
        :meth:`tell`.
        """
        return

    def _candidate(
        self, genome: np.ndarray, parents: tuple[int, ...] = (), operator: str = "sample"
    ) -> Candidate:
        """Make the next candidate: ids count up from 0."""
        id = self._asked
        self._asked += 1
        return Candidate(id, genome, parents, operator, candidate_seed(self.seed, id))
