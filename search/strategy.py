"""Strategies: what a search tries, and in which loop."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence

from search.ask_and_tell import AskAndTell
from search.budget import Budget
from search.executors.base import Executor
from search.loop import Loop, Order, epoch_macs
from search.problem import Problem
from search.record.ledger import Ledger
from search.tally import SearchLoop


class SearchStrategy(ABC):
    """Decides what a search tries: makes the loop that runs it, and says what the engine has to know before.

    Attributes:
        monitor: metric, or sum of metrics, that is watched while a candidate is evaluated; None or empty:
            none is.
        needs_state: whether it keeps files in the run's folder of heavy state, in a search in memory, too.
        asks_known: whether it asks at once for all candidates whose results are known from the run that it
            begins with, since it would hardly come to them again.
        starts_from_base: whether candidates come from the base model, which is trained, evaluated and scored
            first; else only what is screened is known of it.
    """

    monitor: str | None = None
    needs_state: bool = False
    asks_known: bool = False
    starts_from_base: bool = True

    @abstractmethod
    def make_loop(
        self,
        problem: Problem,
        executor: Executor,
        ledger: Ledger,
        budget: Budget,
        *,
        seed: int = 0,
        order: Order = "strict",
        lag: int = 64,
        chunk: int = 16,
        listeners: Sequence[object] = (),
    ) -> SearchLoop:
        """Return the loop that runs a search by this strategy; the strategy itself stays as it was given, so
        that the next call starts from it again.

        Args:
            problem: space, evaluator and goals.
            executor: evaluates.
            ledger: of the run.
            budget: when to stop.
            seed: of the run.
            order: see :class:`~search.loop.Loop`; of no effect where nothing is asked in chunks.
            lag: see :class:`~search.loop.Loop`; likewise.
            chunk: see :class:`~search.loop.Loop`; likewise.
            listeners: see :class:`~search.loop.Loop`.

        Raises:
            InputError: of what does not fit the problem or the budget.
        """

    def rehearse(self, problem: Problem, seed: int) -> None:
        """See that the strategy fits a problem, before there is anything of the run.

        Raises:
            InputError: it does not.
        """
        return

    def candidate_seconds(self, problem: Problem, seed: int) -> float | None:
        """Return how long one of its candidates takes in this process, measured; None: as long as any random
        candidate.
        """
        return None

    def most_candidates(self) -> int | None:
        """Return how many candidates there will be at most, None where nothing but the budget says."""
        return None

    def cell_graph(self) -> tuple[int, list[list[int]]]:
        """Return the number of cells and the edges between them, where it runs cells on a graph."""
        return 0, []


class Strategy(AskAndTell, SearchStrategy):
    """Proposes candidates, learns from evaluations.

    It must be a function of its arguments, the seed and the order of the calls alone: on resume it is
    replayed.

    Attributes:
        monitor: metric, or sum of metrics, that it watches while candidates run; None: it watches none.
    """

    monitor: str | None = None

    def make_loop(
        self,
        problem: Problem,
        executor: Executor,
        ledger: Ledger,
        budget: Budget,
        *,
        seed: int = 0,
        order: Order = "strict",
        lag: int = 64,
        chunk: int = 16,
        listeners: Sequence[object] = (),
    ) -> SearchLoop:
        return Loop(
            problem,
            copy.deepcopy(self),
            executor,
            ledger,
            budget,
            seed=seed,
            order=order,
            lag=lag,
            chunk=chunk,
            listeners=listeners,
            epoch_macs=epoch_macs(problem, budget),
        )

    def rehearse(self, problem: Problem, seed: int) -> None:
        """Where there is no base model, all that :meth:`start` asks of the problem is known by now."""
        if problem.space.base is None:
            copy.deepcopy(self).start(problem, seed)
