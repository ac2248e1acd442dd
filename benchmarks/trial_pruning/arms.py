"""The arms: what stops trials, replayed on recorded curves until a number of epochs is spent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import optuna
from optuna.pruners import BasePruner

from benchmarks.trial_pruning.curves import Pool
from benchmarks.trial_pruning.tasks import EPOCHS

Score = Callable[[Pool], np.ndarray]
"""From a pool to what is reported: ``(configurations, epochs)``, lower is better."""


class Spent(Exception):
    """The budget is used up."""


@dataclass
class Replay:
    """One run of an arm: configurations come in a random order, every epoch counts.

    Attributes:
        reached: epochs seen of every configuration, ``(configurations,)``.
        trace: epochs spent, and the configuration that would be chosen then, whenever that changes.
    """

    pool: Pool
    order: np.ndarray
    budget: int
    spent: int = 0
    seconds: float = 0.0
    reached: np.ndarray = field(init=False)
    trace: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reached = np.zeros(len(self.order), dtype=np.int64)
        self._val, self._seconds = self.pool["val_loss"], self.pool["seconds"]
        self._best: tuple[bool, float] = (False, np.inf)

    def train(self, config: int, until: int) -> None:
        """Train a configuration up to an epoch; its earlier epochs are not paid again.

        Raises:
            Spent: in the middle, where the budget ends.
        """
        while self.reached[config] < until:
            if self.spent >= self.budget:
                raise Spent
            self.seconds += self._seconds[config, self.reached[config]] if np.isfinite(self._seconds[config, self.reached[config]]) else 0
            self.reached[config] += 1
            self.spent += 1
            self._consider(config)

    def look(self, config: int, column: str = "gram_seconds") -> None:
        """Pay for an estimate at the latest epoch of a configuration."""
        cost = self.pool[column][config, self.reached[config] - 1]
        self.seconds += cost if np.isfinite(cost) else 0

    def _consider(self, config: int) -> None:
        """Choose the trial of the lowest validation loss so far, one trained to the end before any other."""
        complete = bool(self.reached[config] == EPOCHS)
        value = float(self._val[config, : self.reached[config]].min())
        if (complete, -value) > (self._best[0], -self._best[1]):
            self._best = (complete, value)
            self.trace.append((self.spent, config))

    def chosen(self, at: int | None = None) -> int:
        """Return the configuration chosen after so many epochs; all of them: None."""
        return next(config for spent, config in reversed(self.trace) if at is None or spent <= at)


class Arm(ABC):
    """A rule that spends a budget of epochs."""

    @abstractmethod
    def run(self, replay: Replay) -> None:
        """Train configurations in the order given until :class:`Spent` is raised, or all are done."""


@dataclass
class Pruned(Arm):
    """One trial after the other, reported to a study of Optuna with a pruner, as Optuna ships it."""

    pruner: Callable[[], BasePruner]
    score: Score
    error: Score | None = None  # standard errors of the reports, for pruners that decide on intervals

    def run(self, replay: Replay) -> None:
        score = self.score(replay.pool)
        error = None if self.error is None else self.error(replay.pool)
        movement = replay.pool["movement"]
        study = optuna.create_study(pruner=self.pruner())
        for config in replay.order:
            trial = study.ask()
            for epoch in range(1, EPOCHS + 1):
                replay.train(config, epoch)
                value = float(score[config, epoch - 1])
                if not np.isfinite(value):
                    break
                if error is not None:
                    replay.look(config)
                    attributes = {"bias": 0.0, "error": float(error[config, epoch - 1]), "movement": float(movement[config, epoch - 1])}
                    trial.set_user_attr(f"tic:{epoch}", attributes)
                trial.report(value, epoch)
                if trial.should_prune():
                    break
            complete = replay.reached[config] == EPOCHS and np.isfinite(value)
            study.tell(trial, value if complete else None, None if complete else optuna.trial.TrialState.PRUNED)


@dataclass
class Halving(Arm):
    """Synchronous successive halving: brackets of 27, 9, 3 and 1 trials at 1, 3, 9 and 27 epochs. [P]

    Args:
        second: fills half of every rung's places where given, `score` the rest. [O]
        cost: column of seconds that every look at a score costs.
    """

    score: Score
    second: Score | None = None
    cost: str | None = None
    size: int = 27
    eta: int = 3
    first: int = 1

    def run(self, replay: Replay) -> None:
        score = self.score(replay.pool)
        second = None if self.second is None else self.second(replay.pool)
        for start in range(0, len(replay.order), self.size):
            alive = list(replay.order[start : start + self.size])
            epoch = self.first
            while True:
                for config in alive:
                    replay.train(config, epoch)
                    if self.cost is not None and epoch < EPOCHS:
                        replay.look(config, self.cost)
                if epoch >= EPOCHS:
                    break
                others = None if second is None else second[alive, epoch - 1]
                alive = promoted(alive, score[alive, epoch - 1], others, max(1, len(alive) // self.eta))
                epoch = min(EPOCHS, epoch * self.eta)


def promoted(alive: list[int], score: np.ndarray, second: np.ndarray | None, places: int) -> list[int]:
    """Return who goes on: the best by the score; where there is a second one, it fills half of the places first."""
    best = [alive[i] for i in np.argsort(score, kind="stable")]
    if second is None:
        return best[:places]
    kept = [alive[i] for i in np.argsort(second, kind="stable")][: (places + 1) // 2]
    return kept + [config for config in best if config not in kept][: places - len(kept)]
