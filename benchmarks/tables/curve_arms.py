"""What stops trials, in virtual time: pruners of Optuna by ask and tell, and strategies of ours through their
public interface, on curves that are known.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, PercentilePruner
from optuna.pruners import SuccessiveHalvingPruner as OptunaHalving
from optuna.trial import Trial, TrialState

from evaluators.base import Candidate, Evaluation, Evaluator, Report, State
from search.problem import Objective, Problem
from search.pruners import LeadersPruner
from search.tuning.halving import SuccessiveHalving
from spaces.trials import TrialSpace

_PACE = 0.25


class Session(ABC):
    """One run of an arm: which trial a free worker takes, and which running trial stops."""

    @abstractmethod
    def take(self) -> tuple[int, int] | None:
        """Return a trial's row in the table, and how many steps of it are trained already; None: there is
        nothing to do now.
        """

    @abstractmethod
    def report(self, row: int, step: int, value: float) -> bool:
        """Hear of a step; return whether the trial stops there. After its last step it ends in any case."""


Arm = Callable[[np.ndarray, int], Session]
"""``arm(order, steps)``: a session in which rows come in this order, each of so many steps."""


class Study(Session):
    """A study of Optuna with a pruner."""

    def __init__(self, pruner: BasePruner, order: np.ndarray, steps: int) -> None:
        # Hyperband derives brackets from the study's name
        self._study = optuna.create_study(
            study_name="curves", pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=0)
        )
        self._left, self._steps = list(order[::-1]), steps
        self._open: dict[int, Trial] = {}

    def take(self) -> tuple[int, int] | None:
        if not self._left:
            return None
        row = int(self._left.pop())
        self._open[row] = self._study.ask()
        return row, 0

    def report(self, row: int, step: int, value: float) -> bool:
        trial = self._open[row]
        trial.report(value, step)
        if step == self._steps:
            self._study.tell(trial, value)
            return True
        if trial.should_prune():
            self._study.tell(trial, state=TrialState.PRUNED)
            return True
        return False


class _Steps(Evaluator):
    """Says how many steps a trial has; nothing is trained."""

    metrics = ("error",)

    def __init__(self, epochs: int) -> None:
        self.epochs: int = epochs

    def evaluate(self, model: object, candidate: Candidate) -> Iterator[Report]:
        raise NotImplementedError


class Halving(Session):
    """Our :class:`~search.SuccessiveHalving` by validation error, without TIC: a trial of a rung that goes on
    does so from its checkpoint.
    """

    def __init__(self, order: np.ndarray, steps: int) -> None:
        self._steps = steps
        self._space = TrialSpace({"row": {"low": 0, "high": len(order) - 1}})
        evaluator = _Steps(steps)
        evaluator.bind(self._space)
        points = [{"row": int(row)} for row in order]
        self._strategy = SuccessiveHalving(n=27, monitor="error", starting_points=points)
        self._strategy.start(Problem(self._space, evaluator, (Objective("error"),)), 0)
        self._left = len(order)
        self._open: dict[int, Candidate] = {}
        self._trained: dict[int, int] = {}

    def take(self) -> tuple[int, int] | None:
        asked = self._strategy.ask(1)
        if not asked:
            return None
        row = int(self._space.values(asked[0].genome)["row"])
        self._open[row] = asked[0]
        return row, self._trained.get(row, 0)

    def report(self, row: int, step: int, value: float) -> bool:
        candidate, self._trained[row] = self._open[row], step
        stops = bool(self._strategy.should_stop(candidate, Report({"error": value}, step)))
        if stops or step == self._steps:
            state = State.COMPLETE if step == self._steps else State.PRUNED
            self._strategy.tell([Evaluation(candidate, state, {"error": value})])
        return stops


def pruned_by(make: Callable[[], BasePruner]) -> Arm:
    """Return an arm of a study with a pruner of Optuna, or one of ours."""
    return lambda order, steps: Study(make(), order, steps)


NONE = "no pruning"
EXISTING: dict[str, Arm] = {
    NONE: pruned_by(NopPruner),
    "Optuna median": pruned_by(MedianPruner),
    "Optuna percentile 25": pruned_by(lambda: PercentilePruner(25.0)),
    "Optuna successive halving": pruned_by(OptunaHalving),
    "Optuna hyperband": pruned_by(HyperbandPruner),
}
"""What there is: Optuna's pruners with their defaults."""
OURS = "ours: LeadersPruner"
OWN: dict[str, Arm] = {
    OURS: pruned_by(LeadersPruner),
    "ours: SuccessiveHalving": Halving,
}
ARMS = EXISTING | OWN


class Moment(NamedTuple):
    """From here on this row would be chosen.

    Attributes:
        steps: trained so far, of all trials together.
        time: virtual; 1 is a step of a trial at the median pace.
    """

    steps: int
    time: float
    row: int


@dataclass
class Choice:
    """The trial that would be chosen: the complete one of the lowest error; before there is one, the one of
    the lowest latest error.
    """

    trace: list[Moment] = field(default_factory=list)
    _latest: dict[int, float] = field(default_factory=dict)
    _best: float | None = None

    def hear(self, moment: Moment, value: float, complete: bool) -> None:
        """Take in what a trial reported."""
        row: int | None = None
        if complete:
            if self._best is None or value < self._best:
                self._best, row = value, moment.row
        elif self._best is None:
            self._latest[moment.row] = value
            row = min(self._latest, key=lambda other: self._latest[other])
        if row is not None and (not self.trace or self.trace[-1].row != row):
            self.trace.append(moment._replace(row=row))


def simulate(
    errors: np.ndarray, arm: Arm, seed: int, workers: int, steps: int, time: float = np.inf
) -> list[Moment]:
    """Return which trial would be chosen when; trials come in an order that the seed draws.

    Every step costs one. A step takes a time that is drawn once for each trial, log-normal about 1; arms of
    one seed meet the same orders and paces.

    Args:
        errors: ``(trials, steps)``.
        steps: that are trained at most, of all trials together.
        time: virtual, at most.
    """
    rng = np.random.default_rng([24, seed])
    order, pace = rng.permutation(len(errors)), rng.lognormal(0.0, _PACE, len(errors))
    session, choice = arm(order, errors.shape[1]), Choice()
    agenda: list[tuple[float, int, int, int]] = []  # time, order of arrival, row, step
    begun = spent = free = 0
    free, now = workers, 0.0

    def go_on(row: int, step: int) -> None:
        nonlocal begun
        begun += 1
        heapq.heappush(agenda, (now + pace[row], begun, row, step))

    while True:
        while free and (taken := session.take()) is not None:
            free -= 1
            go_on(taken[0], taken[1] + 1)
        if not agenda:
            return choice.trace
        now, _, row, step = heapq.heappop(agenda)
        if now > time or spent >= steps:
            return choice.trace
        spent += 1
        value, complete = float(errors[row, step - 1]), step == errors.shape[1]
        choice.hear(Moment(spent, now, row), value, complete)
        if session.report(row, step, value) or complete:
            free += 1
        else:
            go_on(row, step + 1)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from telling of every trial."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
