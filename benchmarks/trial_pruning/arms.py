"""The arms: what stops trials, replayed on recorded curves until a number of epochs is spent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
)

from benchmarks.trial_pruning.curves import Pool
from benchmarks.trial_pruning.tasks import EPOCHS
from benchmarks.trial_pruning.weighing import Weighing
from search.pruners import TICPruner
from search.strategies.rank_correlation import normal_scores

Score = Callable[[Pool], np.ndarray]
"""From a pool to what is reported: ``(configurations, epochs)``, lower is better."""


class Spent(Exception):
    """The budget is used up."""


@dataclass
class Replay:
    """One run of an arm: configurations come in a random order, every epoch counts.

    Attributes:
        choice: a trial is chosen by the lowest mean of this over `window` epochs in a row; None: by its
            lowest validation loss. The checkpoint stays that of the lowest validation loss. [O]
        reached: epochs seen of every configuration, ``(configurations,)``.
        trace: epochs spent, and the configuration that would be chosen then, whenever that changes.
    """

    pool: Pool
    order: np.ndarray
    budget: int
    choice: Score | None = None
    window: int = 5
    spent: int = 0
    seconds: float = 0.0
    reached: np.ndarray = field(init=False)
    trace: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reached = np.zeros(len(self.order), dtype=np.int64)
        values = self.pool["val_loss"] if self.choice is None else steady(self.choice(self.pool), self.window)
        self._choice = np.minimum.accumulate(values, 1)
        self._seconds = np.nan_to_num(self.pool["seconds"], posinf=0.0)
        self._best: tuple[bool, float] = (False, -np.inf)

    def train(self, config: int, until: int) -> None:
        """Train a configuration up to an epoch; its earlier epochs are not paid again.

        Raises:
            Spent: in the middle, where the budget ends.
        """
        while self.reached[config] < until:
            if self.spent >= self.budget:
                raise Spent
            self.seconds += self._seconds[config, self.reached[config]]
            self.reached[config] += 1
            self.spent += 1
            self._consider(config)

    def look(self, config: int, column: str) -> None:
        """Pay for an estimate at the latest epoch of a configuration."""
        cost = self.pool[column][config, self.reached[config] - 1]
        self.seconds += cost if np.isfinite(cost) else 0.0

    def _consider(self, config: int) -> None:
        """Choose the trial of the lowest validation loss so far, one trained to the end before any other."""
        rank = (bool(self.reached[config] == EPOCHS), -float(self._choice[config, self.reached[config] - 1]))
        if rank > self._best or not self.trace:
            self._best = rank
            self.trace.append((self.spent, config))

    def chosen(self, at: int | None = None) -> int:
        """Return the configuration chosen after `at` epochs; None: after all of them."""
        return next(config for spent, config in reversed(self.trace) if at is None or spent <= at)


class Arm(ABC):
    """A rule that spends a budget of epochs.

    Attributes:
        choice, window: how the trial is chosen in the end, see :class:`Replay`.
    """

    choice: Score | None
    window: int = 5

    @abstractmethod
    def run(self, replay: Replay) -> None:
        """Train configurations in the order given until :class:`Spent` is raised, or all are done."""


@dataclass
class Pruned(Arm):
    """One trial after the other, reported to a study of Optuna with a pruner, as Optuna ships it."""

    pruner: Callable[[], BasePruner]
    score: Score
    error: Score | None = None  # standard errors of the reports, for pruners that decide on intervals
    choice: Score | None = None

    def run(self, replay: Replay) -> None:
        score = self.score(replay.pool)
        error = None if self.error is None else self.error(replay.pool)
        movement = replay.pool["movement"]
        study = optuna.create_study(
            study_name="arm", pruner=self.pruner()
        )  # Hyperband derives brackets from the name
        for config in replay.order:
            trial = study.ask()
            for epoch in range(1, EPOCHS + 1):
                replay.train(config, epoch)
                value = float(score[config, epoch - 1])
                if not np.isfinite(value):
                    break
                if error is not None:
                    replay.look(config, "gram_seconds")
                    attributes = {
                        "bias": 0.0,
                        "error": float(error[config, epoch - 1]),
                        "movement": float(movement[config, epoch - 1]),
                    }
                    trial.set_user_attr(f"tic:{epoch}", attributes)
                trial.report(value, epoch)
                if trial.should_prune():
                    break
            complete = replay.reached[config] == EPOCHS and np.isfinite(value)
            study.tell(
                trial, value if complete else None, None if complete else optuna.trial.TrialState.PRUNED
            )


@dataclass
class Halving(Arm):
    """Synchronous successive halving: of `size` trials at one epoch a third goes on to three, a third of
    these to nine, and so on. [P]

    Args:
        second: fills half of every rung's places where given, `score` the rest. [O]
        signals: more columns of which normal scores are added to those of `score`, with these weights. [O]
        cost: column of seconds that every look at a score costs.
        waves: parts in which a bracket comes. Trials of one wave that were not promoted compete again with
            those of the next, so that in the end a third of all has gone on, while the first trial is trained
            to the end early. [O]
    """

    score: Score
    second: Score | None = None
    signals: Sequence[tuple[Score, float]] = ()
    cost: str | None = None
    size: int = 27
    choice: Score | None = None
    choice_cost: str | None = None  # of every epoch of the trials that come to the end
    waves: int = 1
    window: int = 5

    def run(self, replay: Replay) -> None:
        for start in range(0, len(replay.order), self.size):
            came: dict[int, np.ndarray] = {}
            gone: dict[int, np.ndarray] = {}
            for coming in np.array_split(replay.order[start : start + self.size], self.waves):
                epoch = 1
                while True:
                    for config in coming:
                        self._train(replay, config, epoch)
                    if epoch >= EPOCHS:
                        break
                    none = coming[:0]
                    came[epoch] = alive = np.concatenate([came.get(epoch, none), coming])
                    left = ~np.isin(alive, gone.get(epoch, none))
                    rank, second = self.ranks(replay.pool, alive, epoch)
                    places = max(1, len(alive) // 3) - int((~left).sum())
                    coming = promoted(
                        alive[left], rank[left], None if second is None else second[left], places
                    )
                    gone[epoch] = np.concatenate([gone.get(epoch, none), coming])
                    epoch *= 3

    def ranks(self, pool: Pool, alive: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return what trials at a rung are ranked by, ``(trials,)``, lower is better, and what fills half of
        the places, if anything.
        """
        rank = self.score(pool)[alive, epoch - 1]
        if self.signals:
            rank = normal_scores(rank) + sum(
                weight * normal_scores(column(pool)[alive, epoch - 1]) for column, weight in self.signals
            )
        return rank, None if self.second is None else self.second(pool)[alive, epoch - 1]

    def _train(self, replay: Replay, config: int, until: int) -> None:
        if until >= EPOCHS and self.choice_cost is not None:
            for epoch in range(int(replay.reached[config]) + 1, EPOCHS + 1):
                replay.train(config, epoch)
                replay.look(config, self.choice_cost)
            return
        replay.train(config, until)
        if self.cost is not None and until < EPOCHS:
            replay.look(config, self.cost)


@dataclass
class Weighed(Halving):
    """The same, with a score that is made of all the trials at a rung."""

    weighing: Callable[[Pool, np.ndarray, int], np.ndarray] = field(default_factory=Weighing)

    def ranks(self, pool: Pool, alive: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray | None]:
        return self.weighing(pool, alive, epoch), None


def steady(values: np.ndarray, window: int = 5) -> np.ndarray:
    """Return means over up to `window` epochs, the latest of them in each column."""
    return np.stack(
        [values[:, max(0, epoch - window + 1) : epoch + 1].mean(1) for epoch in range(values.shape[1])], 1
    )


def promoted(alive: np.ndarray, score: np.ndarray, second: np.ndarray | None, places: int) -> np.ndarray:
    """Return the trials that go on: the best by the score; where there is a second score, its best fill half
    of the places first.
    """
    best = alive[np.argsort(score, kind="stable")]
    if second is None:
        return best[:places]
    kept = alive[np.argsort(second, kind="stable")][: (places + 1) // 2]
    return np.concatenate([kept, best[~np.isin(best, kept)][: places - len(kept)]])


def column(name: str) -> Score:
    """Return a column as it was recorded."""
    return lambda pool: pool[name]


def plus_bias(loss: str, bias: str, share: float = 1.0, over_n: bool = True) -> Score:
    """Return a loss plus a share of a bias, over n or as the paper prints it."""
    return lambda pool: pool[loss] + share * pool[bias] / (pool.n if over_n else 1)


def _optuna(loss: str) -> dict[str, Arm]:
    score = column(f"{loss}_loss")
    return {
        f"median, {loss}": Pruned(MedianPruner, score),
        f"percentile 25, {loss}": Pruned(lambda: PercentilePruner(25.0), score),
        f"successive halving, {loss}": Pruned(SuccessiveHalvingPruner, score),
        f"successive halving by 3, {loss}": Pruned(lambda: SuccessiveHalvingPruner(1, 3), score),
        f"hyperband, {loss}": Pruned(lambda: HyperbandPruner(1, EPOCHS, 3), score),
        f"patient median, {loss}": Pruned(lambda: PatientPruner(MedianPruner(), 3), score),
        f"synchronous halving 27, {loss}": Halving(score),
        f"synchronous halving 81, {loss}": Halving(score, size=81),
    }


_VAL = column("val_loss")
_TRACE, _MOVEMENT = (column("val/64/trace"), 0.3), (column("movement"), 0.3)

EXISTING: dict[str, Arm] = {"no pruning": Pruned(NopPruner, _VAL)} | _optuna("val") | _optuna("train")
"""What there is: Optuna's pruners with their defaults, and synchronous halving, on validation and on training
loss.
"""

PAPER: dict[str, Arm] = {
    f"paper: {name}, {'1/n' if over_n else '1'}": Halving(
        plus_bias("train_loss", f"val/64/{name}", over_n=over_n), cost="trace_seconds"
    )
    for name in ("diagonal", "trace")
    for over_n in (True, False)
}
"""arXiv 2602.23219 as it is: synchronous halving on training loss plus a bias estimated on validation data.
"""

_CHOICE = plus_bias("val_loss", "val/64/gram@0.001", 0.2)
_OWN: dict[str, Any] = {"signals": [_TRACE, _MOVEMENT], "cost": "trace_seconds", "size": 81}

_WEIGHED: dict[str, Any] = {"score": _VAL, "choice": _VAL, "size": 81, "waves": 2}
_SETTLED: dict[str, Any] = _WEIGHED | {"waves": 1, "cost": "gram_seconds"}

OURS = "ours: halving 81, val + gram/n by the gap's share + movement and trace by a quarter of val's error"
"""The rule that :mod:`~benchmarks.trial_pruning.settling` chose."""
NEW: dict[str, Arm] = {
    OURS: Weighed(**_SETTLED, weighing=Weighing(errors=0.25, trace=0.25)),
    "ours: halving 81 in 2 waves, val + gram/n by the gap's share + movement by the error of val": Weighed(
        **_WEIGHED, cost="gram_seconds"
    ),
    "ours at the first look: chosen over 3 epochs": Weighed(**_WEIGHED, window=3, cost="gram_seconds"),
    "ours, in one wave": Weighed(**_WEIGHED | {"waves": 1}, cost="gram_seconds"),
    "ours, the share fixed at 1/2": Weighed(**_WEIGHED, cost="gram_seconds", weighing=Weighing(share=0.5)),
    "fixed weights: halving 81, val + trace + movement, chosen by val + .2 gram/n over 5 epochs": Halving(
        _VAL, **_OWN, choice=_CHOICE, choice_cost="gram_seconds"
    ),
    "the same, chosen by val over 5 epochs (our first)": Halving(_VAL, **_OWN, choice=_VAL),
    "the same, chosen by val": Halving(_VAL, **_OWN),
    "halving 27, train + gram/n": Halving(plus_bias("train_loss", "val/64/gram@0.001"), cost="gram_seconds"),
    "halving 27, val + gram/n": Halving(plus_bias("val_loss", "val/64/gram@0.001"), cost="gram_seconds"),
    "halving 27, val + gram/n at damping .01": Halving(
        plus_bias("val_loss", "val/64/gram@0.01"), cost="gram_seconds"
    ),
    "halving 27, half val, half val + gram/n": Halving(
        plus_bias("val_loss", "val/64/gram@0.001"), _VAL, cost="gram_seconds"
    ),
    "TICPruner, val + gram/n": Pruned(
        lambda: TICPruner(min_resource=3),
        plus_bias("val_loss", "val/64/gram@0.001"),
        lambda pool: pool["val/64/error"] / pool.n,
    ),
}

CONTROLS: dict[str, Arm] = (
    {
        "control: no signals, chosen by val over 5 epochs": Halving(_VAL, size=81, choice=_VAL),
        "control: no signals, chosen by val + .2 gram/n over 5 epochs": Halving(
            _VAL, size=81, choice=_CHOICE, choice_cost="gram_seconds"
        ),
    }
    | {
        f"control: {name}, chosen by val over 5 epochs": Halving(_VAL, signals=[signal], size=81, choice=_VAL)
        for name, signal in {
            "trace alone": _TRACE,
            "movement alone": _MOVEMENT,
            "Tr C": (column("val/64/trace_c"), 0.3),
            "val - train": (lambda pool: pool["val_loss"] - pool["train_loss"], 0.3),
            "log parameters": (lambda pool: pool.everywhere(np.log(pool.sizes)), 0.3),
        }.items()
    }
    | {
        "control: halving 27, val - .5 train": Halving(
            lambda pool: pool["val_loss"] - 0.5 * pool["train_loss"]
        ),
        "control: ours without signals, first rung by val": Weighed(
            **_WEIGHED, weighing=Weighing(share=0, errors=0, pooled=False)
        ),
        "control: ours without signals": Weighed(**_WEIGHED, weighing=Weighing(share=0, errors=0)),
        "control: ours without TIC": Weighed(**_WEIGHED, weighing=Weighing(share=0)),
        "control: ours without movement": Weighed(
            **_WEIGHED, cost="gram_seconds", weighing=Weighing(errors=0)
        ),
    }
    | {
        f"control: the rule without {name}": Weighed(**_SETTLED, weighing=weighing)
        for name, weighing in {
            "gram/n": Weighing(share=0, errors=0.25, trace=0.25),
            "movement": Weighing(errors=0, trace=0.25),
            "trace": Weighing(errors=0.25),
        }.items()
    }
)
"""The same halving with statistics that cost nothing, and with each part left out."""

ARMS = EXISTING | PAPER | NEW | CONTROLS
