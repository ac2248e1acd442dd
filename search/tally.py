"""What the loops of all strategies count, keep in the ledger and tell."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from evaluators.base import Evaluation, State
from search.budget import Budget
from search.ending import NOTE, Ending, EndingKind
from search.executors.base import Executor
from search.front import Front
from search.numbers import number
from search.problem import Problem
from search.record.ledger import Ledger, LedgerError

_ELAPSED = "elapsed"


@runtime_checkable
class HearsResults(Protocol):
    """A listener that is told of every new result."""

    def evaluated(self, evaluation: Evaluation, joined_front: bool) -> None:
        """Hear of a result as it is told to the strategy, and whether it joined the front."""


@runtime_checkable
class Looks(Protocol):
    """A listener that looks at the loop now and then."""

    def tick(self, loop: Any) -> None:
        """Look at a :class:`SearchLoop`; called about twice a second, also while it reads what earlier calls
        found, and after every batch of events.
        """


class Tally:
    """Front, counts, time and ending of one loop, and its listeners.

    Args:
        problem: gives the goals.
        budget: gives the limits of time and of stalling.
        listeners: objects that are :class:`HearsResults`, :class:`Looks` or both.

    Attributes:
        front: of everything counted so far.
        states: number of results in each state.
        feasible: number of results counted that are feasible.
        idle: number of results counted since the last one that joined the front; `longest`: the most that
            it ever was.
        ending: why nothing more is asked; None as long as there is no reason.
        hearing: listeners that are told of results.
    """

    def __init__(self, problem: Problem, budget: Budget, listeners: Sequence[object] = ()) -> None:
        self.front = Front(problem)
        self.states: Counter[State] = Counter()
        self.feasible = self.idle = self.longest = 0
        self.ending: Ending | None = None
        self.hearing = [listener for listener in listeners if isinstance(listener, HearsResults)]
        self._looking = [listener for listener in listeners if isinstance(listener, Looks)]
        self._problem, self._budget = problem, budget
        budget.check([objective.metric for objective in problem.objectives])
        self._spent, self._began = 0.0, time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds of wall time, those of earlier calls included."""
        return self._spent + time.monotonic() - self._began

    @property
    def seconds_left(self) -> float:
        """Seconds until the time is up; infinite without a limit."""
        return math.inf if self._budget.seconds is None else self._budget.seconds - self.elapsed

    def overtime(self, seconds: float = 0.0, share: float = 0.0) -> bool:
        """Return whether the time is up, and so many seconds and this share of it have passed since."""
        limit = self._budget.seconds
        return limit is not None and self.elapsed >= limit * (1 + share) + seconds

    def count(self, evaluation: Evaluation) -> bool:
        """Count a result; return whether it joined the front."""
        joined = self.front.add(evaluation)
        feasible = bool(self._problem.violations([evaluation])[0] == 0)
        self.feasible += int(feasible)
        if feasible and (reached := self._reached(evaluation.metrics)):
            self.end(EndingKind.TARGET, f"candidate {evaluation.candidate.id}: {reached}")
        self.idle = 0 if joined else self.idle + 1
        self.longest = max(self.longest, self.idle)
        if self.idle >= (self._budget.stall or math.inf):
            self.end(EndingKind.STALL)
        return joined

    def _reached(self, metrics: Mapping[str, float]) -> str:
        """Return the values by which a feasible candidate reaches the target; empty where it does not."""
        target, objectives = self._budget.target or {}, self._problem.objectives
        goals = [(goal, target[goal.metric]) for goal in objectives if goal.metric in target]
        met = all(
            metrics[goal.metric] >= value if goal.maximise else metrics[goal.metric] <= value
            for goal, value in goals
        )
        if not met:
            return ""
        return ", ".join(f"{goal.metric} {number(metrics[goal.metric])}" for goal, _ in goals)

    def end(self, kind: EndingKind, detail: str = "") -> None:
        """Say why nothing more is asked; the first reason counts."""
        self.ending = self.ending or Ending(kind, detail)

    def tell(self, evaluation: Evaluation, joined: bool) -> None:
        """Tell the listeners of a new result."""
        for listener in self.hearing:
            listener.evaluated(evaluation, joined)

    def tick(self, loop: SearchLoop) -> None:
        """Let the listeners look at the loop."""
        for listener in self._looking:
            listener.tick(loop)

    def recall(self, ledger: Ledger) -> None:
        """Take over the time that earlier calls took."""
        self._spent = float(ledger.note(_ELAPSED) or 0.0)

    def keep_time(self, ledger: Ledger) -> None:
        """Note the time so far; the caller commits."""
        ledger.save_note(_ELAPSED, self.elapsed)

    def run(self, ledger: Ledger, search: Callable[[], Ending]) -> Ending:
        """Run a search to its end, and keep in the ledger why it ended and how long it took.

        Where the disk is full, or a second interrupt strikes, what was committed is whole and stays.

        Args:
            search: runs the loop and returns why it ended.
        """
        self._began = time.monotonic()
        try:
            ending = search()
            self.keep_time(ledger)
            ledger.save_note(NOTE, str(ending))
            ledger.commit()
        except KeyboardInterrupt:
            ledger.rollback()  # it may have struck halfway
            return Ending(EndingKind.INTERRUPTED)
        except LedgerError as error:
            return Ending(EndingKind.DISK_FULL, str(error))
        return ending


class SearchLoop(ABC):
    """Runs a search to its end; what listeners see of it.

    Attributes:
        problem: that is searched.
        executor: where candidates are evaluated.
        ledger: of the run.
        budget: when to stop.
        tally: front, counts and time.
        restored: number of results taken from the ledger.
        asked: number of candidates asked.
        recorded: number of candidates that the ledger had when it began.
        epochs: what training has taken, as :class:`Budget` counts it, where it is limited.
        steps: of candidates that are not finished and have reported, the step (an epoch) of their last
            report.
    """

    def __init__(
        self,
        problem: Problem,
        executor: Executor,
        ledger: Ledger,
        budget: Budget,
        listeners: Sequence[object] = (),
    ) -> None:
        self.problem, self.executor, self.ledger, self.budget = problem, executor, ledger, budget
        self.tally = Tally(problem, budget, listeners)
        self.restored = self.asked = self.recorded = 0
        self.epochs = 0.0
        self.steps: dict[int, int] = {}

    @abstractmethod
    def run(self) -> Ending:
        """Run to the end and return why it ended. The ledger keeps it as the note "ended" (but for a full
        disk).
        """

    @abstractmethod
    def interrupt(self) -> None:
        """Ask nothing more and come to an end soon; called again, leave at once. Safe in a signal handler."""

    @property
    @abstractmethod
    def running(self) -> int:
        """Number of candidates submitted and not finished."""

    @property
    def reading(self) -> bool:
        """Whether it is still reading what earlier calls found."""
        return self.asked < self.recorded

    @property
    def front(self) -> Front:
        """Of everything counted so far."""
        return self.tally.front

    @property
    def states(self) -> Counter[State]:
        """Number of results in each state, those of earlier calls included."""
        return self.tally.states

    @property
    def feasible(self) -> int:
        """Number of results counted that are feasible."""
        return self.tally.feasible

    @property
    def elapsed(self) -> float:
        """Seconds of wall time, those of earlier calls included."""
        return self.tally.elapsed
