"""What every executor promises, and the events it reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from evaluators.base import Candidate, Evaluation, Evaluator, Report
from spaces.base import Space


@dataclass(frozen=True)
class Started:
    """The evaluation of a candidate began; it begins again where its worker was lost."""

    id: int


@dataclass(frozen=True, eq=False)
class Reported:
    """A running candidate gave a report.

    Attributes:
        known: whether it ran in another run, so that to stop it saves nothing.
    """

    id: int
    report: Report
    known: bool = False


@dataclass(frozen=True, eq=False)
class Finished:
    """A candidate is done, whatever came of it; nothing follows for its id."""

    evaluation: Evaluation


Event = Started | Reported | Finished


class WorkersLostError(RuntimeError):
    """All workers are gone, with what would start others: nothing more can be evaluated. The text is one line
    for a person. What was told is in the ledger.
    """


class Executor(Protocol):
    """Evaluates candidates somewhere. Every candidate submitted ends in exactly one :class:`Finished`, unless
    it is withdrawn.

    Attributes:
        time_limit: seconds per candidate; None for no limit.
    """

    time_limit: float | None

    @property
    def workers(self) -> int | None:
        """How many candidates it is to work on at once, told before :meth:`start`; None: as many as there is
        room for.
        """

    @property
    def capacity(self) -> int:
        """How many candidates it can work on at once; settled by :meth:`start`."""

    def start(self, space: Space, evaluator: Evaluator) -> None:
        """Get ready to evaluate; again, with something else, once everything submitted is finished."""

    def submit(self, candidates: Sequence[Candidate]) -> None:
        """Take candidates in; returns at once."""

    def events(self, timeout: float | None = None) -> list[Event]:
        """Return what happened since the last call, in order for every candidate.

        Waits for at least one event, but no longer than `timeout` seconds, nor at all where nothing is under
        way.
        """

    def cancel(self, id: int) -> None:
        """Stop a running candidate: it ends as PRUNED with the metrics of its last report. Nothing happens
        where it has ended.
        """

    def withdraw(self) -> list[int]:
        """Forget the candidates that have not started yet; return their ids. They give no events."""

    def close(self) -> None:
        """Stop everything and let go of all resources."""
