"""The product's arm: lines of candidates, pruned while they are trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.fronts.arms import Arm, Point, scoring
from benchmarks.fronts.controls import kept
from benchmarks.fronts.tasks import Ground
from evaluators import Cost, InheritedTraining
from evaluators.inherited.channel_worth import RemovalTrials, Worth, has_norms
from evaluators.training.distillation import Distillation
from operators.mutation import RemovalPruning
from search import PruningLines, Search

_ORDERS = 8
"""Orders in which channels may go; the budget has to hold every one of them."""


@dataclass
class Pruned(Arm):
    """:class:`search.PruningLines` over the channels; every candidate may be on the front.

    How many steps a candidate takes follows from the budget, were channels of all groups to go alike.

    Attributes:
        dense: share of the budget that trains the network that a line begins with.
        first: learning rate of that, over the task's.
        rate: that of the others.
        stretch: see :class:`evaluators.InheritedTraining`.
        distilled: share of the unpruned network in the loss of the others, of samples that are labelled.
        repeats: see :meth:`benchmarks.fronts.tasks.Ground.mixtures`.
    """

    kind = "lines"
    name: str = "lineages"
    lines: int = 1
    rounds: int = 30
    dense: float = 0.4
    first: float = 1.3
    rate: float = 2.0
    stretch: float = 0.8
    decay: float = 0.01
    distilled: float = 0.3
    repeats: float = 16
    worth: Worth = field(default_factory=RemovalTrials)
    power: float = 0.75
    noise: float = 0.0
    tilt: float = 0.0
    brood: int = 8
    growth: float = 0.0

    def run(self, ground: Ground, budget: float) -> tuple[list[Point], float]:
        rounds, first, steps = self._plan(ground, budget)
        evaluator = InheritedTraining(
            steps,
            ground.task.batch,
            self.rate * ground.task.rate,
            weight_decay=self.decay,
            first_steps=first,
            first_learning_rate=self.first * ground.task.rate,
            stretch=self.stretch,
            worth=self.worth,
            distillation=Distillation(1.0, self.distilled) if self.distilled else None,
            mixtures=self._mixtures(ground, budget),
        )
        spending = _Spending(ground.unit)
        lines = PruningLines(
            self.lines,
            rounds,
            ground.smallest,
            brood=self.brood,
            growth=self.growth,
            mutation=RemovalPruning(power=self.power, noise=self.noise, tilt=self.tilt),
        )
        search = Search(
            ground.space.model,
            ground.data,
            space=ground.space,
            evaluators=[Cost(), evaluator],
            objectives=["loss", "macs"],
            strategy=lines,
            criteria=[],
            seed=ground.seed,
            lag=self.lines,
            chunk=1,
            listeners=[spending],
        )
        result = search.run(evaluations=None)
        if result.reason != "exhausted":
            raise RuntimeError(f"the search ended early ({result.reason}): no shard is written of a part")
        base = result.problem.base["training_macs"] / ground.unit + self._taught(ground, budget)
        points = []
        for member in result.front:
            model = result.build(member)
            spent = base + spending.after[member.candidate.id]
            points.append(
                Point(
                    ground.loss(model, "search"),
                    ground.loss(model, "test"),
                    member.metrics["macs"] / ground.unit,
                    spent,
                )
            )
        return points, base + spending.spent

    def _mixtures(self, ground: Ground, budget: float) -> int:
        return ground.mixtures(self.repeats, budget) if self.distilled else 0

    def _taught(self, ground: Ground, budget: float) -> int:
        """Passes of the unpruned network as a teacher."""
        return ground.data.size("train") + self._mixtures(ground, budget) if self.distilled else 0

    def _plan(self, ground: Ground, budget: float) -> tuple[int, int, float]:
        """Rounds, steps of the unpruned network, and of the others as if they were as large; rounds are fewer
        where scoring would take more than a tenth of the budget, or leave less than four steps."""
        first = int(self.dense * budget / (3 * ground.task.batch))
        for rounds in range(self.rounds, 3, -1):
            sizes = ground.smallest ** (np.arange(1, rounds + 1) / rounds)
            if (
                scoring(ground) * sizes.sum() <= 0.1 * budget
                and self._steps(ground, budget, first, sizes) >= 4
            ):
                break
        return (
            rounds,
            first,
            min(
                self._steps(ground, budget, first, _reached(ground, sizes, order)) for order in range(_ORDERS)
            ),
        )

    def _steps(self, ground: Ground, budget: float, first: int, sizes: np.ndarray) -> float:
        """Steps that the budget holds where candidates have these sizes."""
        broods = np.clip(np.round(sizes**-self.growth), 1, self.brood)
        batch = ground.task.batch
        macs = self.lines * broods * sizes
        left = budget - 3 * first * batch - self._taught(ground, budget) - scoring(ground) * (2 + macs.sum())
        low, high = 0.0, left / (macs * sizes**-self.stretch).sum() / (3 * batch)
        for _ in range(40):
            steps = (low + high) / 2
            training = 3 * batch * np.round(steps * sizes**-self.stretch)
            low, high = (
                (steps, high)
                if (macs * (training + self._tried(ground, sizes, training))).sum() <= left
                else (low, steps)
            )
        return 0.97 * low  # candidates may be a little larger than their rounds ask

    def _tried(self, ground: Ground, sizes: np.ndarray, training: np.ndarray) -> np.ndarray:
        """Forward passes that trying removals takes at most: where trying all of them clearly exceeds the
        share that trying may take, they are estimated instead.
        """
        if not isinstance(self.worth, RemovalTrials):
            return np.zeros_like(sizes)
        cases, most = self.worth.cases, self.worth.share * training
        tries = (
            ground.space.length
            * sizes**0.5
            * cases
            * (2 if self.worth.recalibrate and has_norms(ground.space.model) else 1)
        )
        return np.where(tries <= 2 * most, np.minimum(1.25 * tries, most), 3.0 * cases)


def _reached(ground: Ground, sizes: np.ndarray, order: int) -> np.ndarray:
    """Sizes that rounds come to where channels go in an order drawn from the seed `order`; a network that is
    below the next size already skips that round.

    A channel is a large part of a small network, so that about a third of 30 rounds is skipped there.
    """
    scores = np.random.default_rng(order).uniform(0.5, 1.5, ground.space.length)
    genome, reached = np.ones(ground.space.length, dtype=np.uint8), [1.0]
    for size in sizes:
        if reached[-1] > size:
            genome = kept(ground, genome, scores, size)
            reached.append(ground.macs(genome))
    return np.array(reached[1:])


class _Spending:
    """Adds up what candidates took."""

    def __init__(self, unit: float) -> None:
        self.unit, self.spent = unit, 0.0
        self.after: dict[int, float] = {}

    def evaluated(self, evaluation: Any, joined: bool) -> None:
        took = evaluation.metrics.get("training_macs", 0.0) / self.unit
        self.spent += took
        self.after[evaluation.candidate.id] = self.spent
