"""Ask and tell: how candidates are proposed, and how a search learns from their evaluations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluators.base import Candidate, Cause, Evaluation, Report, State
from search.problem import Problem
from search.stop import Stop


def declares_state(holder: object) -> bool:
    """Return whether the very class of an object declares ``state`` and ``restore``."""
    return {"state", "restore"} <= vars(type(holder)).keys()


def candidate_seed(seed: int, id: int) -> int:
    """The seed of a candidate: 63 bits from ``SeedSequence((run seed, candidate id))``."""
    return int(np.random.SeedSequence((seed, id)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def plain_candidate(candidate: Candidate) -> dict[str, Any]:
    """Return a candidate as plain data."""
    return {**vars(candidate), "parents": list(candidate.parents)}


def candidate_of(state: Mapping[str, Any]) -> Candidate:
    """Return the candidate of :func:`plain_candidate`."""
    return Candidate(**{**state, "parents": tuple(state["parents"])})


def plain_evaluation(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation, arrays included, as plain data."""
    return {**vars(evaluation), "candidate": plain_candidate(evaluation.candidate)}


def evaluation_of(state: Mapping[str, Any]) -> Evaluation:
    """Return the evaluation of :func:`plain_evaluation`."""
    cause = None if state["cause"] is None else Cause(state["cause"])
    known = {"candidate": candidate_of(state["candidate"]), "state": State(state["state"]), "cause": cause}
    return Evaluation(**{**state, **known})


class AskAndTell(ABC):
    """What :class:`search.Loop` asks for candidates and tells of their evaluations."""

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

    def heirs(self) -> set[int] | None:
        """Return the ids of told candidates that may still become parents, or None where any may.

        What others left to children is deleted, so that a long search with inherited weights does not fill
        the disk.
        """
        return None

    def should_stop(self, candidate: Candidate, report: Report) -> bool | str | Stop:
        """Whether a running candidate is to be pruned after this report; a text, or a
        :class:`~search.stop.Stop`, says yes, and why.

        Where a worker was lost the reports of a candidate come once more, from the first one on.
        """
        return False

    def hears_known(self, candidate: Candidate, report: Report) -> bool | str | Stop:
        """Likewise, of a candidate whose result is known from another run: to stop it would save nothing.

        By default as :meth:`should_stop`.
        """
        return self.should_stop(candidate, report)

    def recall(self, candidate: Candidate, reports: Sequence[Report]) -> None:
        """Hear, on resume, the reports that a finished candidate gave: told between its :meth:`ask` and its
        :meth:`tell`.
        """
        return

    def state(self) -> dict[str, Any] | None:
        """Return all that a strategy that has been started needs to go on from here, the problem aside; None:
        it is to be told everything again.

        With :meth:`restore` it is what makes resuming fast: numbers, texts, arrays of plain dtypes, lists,
        and dicts with text keys. It changes nothing. A class that has state of its own declares both methods
        itself; those of the class that it extends are not asked.
        """
        return None

    def restore(self, state: dict[str, Any]) -> None:
        """Go on, after :meth:`start`, as the strategy would that gave this state: what is asked and learned
        from here on is the same, bit by bit.
        """
        raise NotImplementedError

    def _counters(self) -> dict[str, Any]:
        """Return what every strategy has: how much was asked, and its generator."""
        return {"asked": self._asked, "rng": self.rng.bit_generator.state}

    def _set_counters(self, state: dict[str, Any]) -> None:
        self._asked = state["asked"]
        self.rng.bit_generator.state = state["rng"]

    def _candidate(
        self, genome: np.ndarray, parents: tuple[int, ...] = (), operator: str = "sample"
    ) -> Candidate:
        """Make the next candidate: ids count up from 0."""
        id = self._asked
        self._asked += 1
        return Candidate(id, genome, parents, operator, candidate_seed(self.seed, id))
