"""What is compared: points, a budget of MACs, and what an arm is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, cast

import moocore
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.fronts.tasks import Ground
from evaluators.inherited.channel_worth import RemovalTrials
from evaluators.inherited.teaching import Teacher
from evaluators.training.distillation import Distillation
from evaluators.training.optimisation import parameter_groups
from operators.criteria import Criterion
from operators.repair.batchnorm import recalibrate


@dataclass(frozen=True)
class Point:
    """A trained compact model: losses over the constant predictor's, MACs over the unpruned network's, and
    what had been spent by then.
    """

    search: float
    test: float
    macs: float
    spent: float = 0.0


class Spent:
    """Counts samples times MACs: a forward pass 1, a backward pass 2."""

    def __init__(self, budget: float) -> None:
        self.budget, self.total = budget, 0.0

    @property
    def left(self) -> float:
        """What may still be spent."""
        return self.budget - self.total

    def step(self, macs: float, samples: int) -> None:
        """Add a gradient step."""
        self.total += 3 * macs * samples

    def forward(self, macs: float, samples: int) -> None:
        """Add a forward pass."""
        self.total += macs * samples


class Arm(ABC):
    """A way to come to a front of small networks.

    Its shards are found by its plain name; its settings stand in them as plain values. Neither changes when a
    class or a module gets another name.

    Attributes:
        name: of its shards and in tables.
        kind: plain name of what the class does.
    """

    name: str
    kind: ClassVar[str]

    @property
    def setting(self) -> dict[str, Any]:
        """All that a run depends on beside task and seed, as plain values by the names of the fields."""
        values = {field.name: getattr(self, field.name) for field in fields(cast(Any, self))}
        return {"kind": self.kind} | {name: plain(value) for name, value in values.items() if name != "name"}

    @abstractmethod
    def run(self, ground: Ground, budget: float) -> tuple[list[Point], float]:
        """Return trained models and what was spent, at most `budget`; nothing may be chosen by the test
        split.
        """


def plain(value: object) -> Any:
    """Return a part of an arm's settings as plain data: arms, recipes, criteria and removal trials by names
    that are written down here.

    Raises:
        TypeError: a part that has no plain form yet.
    """
    if isinstance(value, Arm):
        return value.setting
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, Recipe):
        return {"rate": value.rate, "decay": value.decay, "rise": value.rise}
    if isinstance(value, Criterion):
        return {"criterion": value.name}
    if isinstance(value, RemovalTrials):
        return {"removal trials": value.cases, "share": value.share, "recalibrate": value.recalibrate}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"settings of arms: {type(value).__name__} has no plain form; add it to plain()")


@dataclass
class OnShelf(Arm):
    """An arm that starts from the network of another make, at the same MACs."""

    kind = "other network"
    name: str
    arm: Arm

    def run(self, ground: Ground, budget: float) -> tuple[list[Point], float]:
        return _elsewhere(self.arm, ground.other, ground, budget)


@dataclass
class Narrower(Arm):
    """An arm that begins with fewer channels of every group, this share of them, their weights drawn anew:
    where a budget is short for the unpruned network, more steps of a smaller one are worth more."""

    kind = "narrower"
    name: str
    arm: Arm
    width: float

    def run(self, ground: Ground, budget: float) -> tuple[list[Point], float]:
        if self.width == 1:
            return self.arm.run(ground, budget)
        genome = narrow(ground, [self.width] * len(ground.space.segments))
        return _elsewhere(
            self.arm,
            Ground(ground.task, ground.seed, lambda: fresh(ground, genome, ground.seed)),
            ground,
            budget,
        )


def _elsewhere(arm: Arm, there: Ground, here: Ground, budget: float) -> tuple[list[Point], float]:
    """Run an arm on another network; budget and what is returned are in MACs of the one here."""
    ratio = there.unit / here.unit
    points, spent = arm.run(there, budget / ratio)
    return [
        replace(point, macs=ratio * point.macs, spent=ratio * point.spent) for point in points
    ], ratio * spent


@dataclass
class Raced(Arm):
    """Two arms run a short heat each; the one that leads by the search split begins anew with the rest of the
    budget, and the points of all three runs count.

    Attributes:
        heats: arms that run the heats in place of the two, where the two themselves would not compare
            fairly: the smaller network leads early.
        share: of the budget, for each heat.
        least: of the task's whole budget, for each heat, but never above a third of what there is: with less
            there is no front by which two networks could be compared.
    """

    kind = "race"
    name: str
    arms: tuple[Arm, Arm]
    share: float = 0.15
    least: float = 0.06
    heats: tuple[Arm, Arm] | None = None

    def run(self, ground: Ground, budget: float) -> tuple[list[Point], float]:
        fronts, spent, heat = [], 0.0, min(max(self.share * budget, self.least * ground.budget), budget / 3)
        for arm in self.heats or self.arms:
            points, took = arm.run(ground, heat)
            fronts.append([replace(point, spent=spent + point.spent) for point in points])
            spent += took
        winner = self.arms[int(np.argmax([hypervolume(points, "search") for points in fronts]))]
        points, took = winner.run(ground, budget - spent)
        last = [replace(point, spent=spent + point.spent) for point in points]
        return [*fronts[0], *fronts[1], *last], spent + took


@dataclass(frozen=True)
class Recipe:
    """How networks are trained, by whatever arm: AdamW, the learning rate up over a part of the steps and
    down by a cosine.

    Attributes:
        rate: largest learning rate over the task's.
    """

    rate: float = 1.0
    decay: float = 0.01
    rise: float = 0.2


RECIPE = Recipe()


def scoring(ground: Ground) -> int:
    """Samples that pass forward when a network is scored: for the statistics of BatchNorm, where there is
    any, and on the search split.
    """
    norms = any(
        isinstance(module, nn.modules.batchnorm._BatchNorm) for module in ground.space.model.modules()
    )
    return ground.data.size("search") + (ground.data.size("calibration") if norms else 0)


def epochs_for(ground: Ground, budget: float, macs: float) -> int:
    """Gradient steps that a budget holds for a network, its scoring included."""
    return max(0, int((budget - scoring(ground) * macs) / (3 * macs * ground.task.batch)))


def measured(ground: Ground, model: nn.Module, macs: float, spent: Spent) -> Point:
    """Score a trained model; the test split is looked at as well, for the table alone."""
    recalibrate(model, ground.data.batches("calibration", 256))
    spent.forward(macs, scoring(ground))
    return Point(ground.loss(model, "search"), ground.loss(model, "test"), macs, spent.total)


@dataclass(frozen=True)
class Lessons:
    """What a teacher says of samples: inputs, targets and its logits, ``(n, ...)`` each, and which are
    labelled, ``(n,)``.
    """

    inputs: Tensor
    targets: Tensor
    outputs: Tensor
    labelled: Tensor


def lessons(ground: Ground, teacher: nn.Module, spent: Spent, repeats: float = 0.0) -> Lessons:
    """Ask a teacher of all training samples and of mixtures of them, as the product does: see
    :meth:`Ground.mixtures`.
    """
    count = ground.mixtures(repeats, spent.budget)
    asked = Teacher(teacher.eval(), ground.data, mixtures=count, seed=ground.seed)
    size = ground.data.size("train") + count
    (inputs, targets), outputs, labelled = next(
        asked.batches(size, torch.Generator().manual_seed(ground.seed))
    )
    spent.forward(1.0, size)
    return Lessons(
        inputs, targets, outputs, torch.ones(size, dtype=torch.bool) if labelled is None else labelled
    )


class Batches:
    """Batches of the training split, or of lessons, for ever, full ones, drawn by a generator."""

    def __init__(self, ground: Ground, generator: torch.Generator, taught: Lessons | None = None) -> None:
        self.inputs, self.targets = (
            ground.whole("train") if taught is None else (taught.inputs, taught.targets)
        )
        self.batch, self.generator = ground.task.batch, generator
        self._order, self._place = torch.empty(0, dtype=torch.long), 0

    def __call__(self) -> Tensor:
        """The rows of the next batch."""
        if self._place + self.batch > len(self._order):
            self._order, self._place = torch.randperm(len(self.inputs), generator=self.generator), 0
        self._place += self.batch
        return self._order[self._place - self.batch : self._place]


def train(
    ground: Ground,
    model: nn.Module,
    macs: float,
    steps: int,
    recipe: Recipe,
    spent: Spent,
    generator: torch.Generator,
    factor: Callable[[int], float] | None = None,
    taught: Lessons | None = None,
    share: float = 0.5,
) -> None:
    """Train in place.

    Args:
        factor: of the learning rate at every step; None: one cycle.
        taught: by a teacher; None: labels alone.
        share: of the teacher in the loss of samples that are labelled.
    """
    blend = Distillation(1.0, share)
    batches, rate = Batches(ground, generator, taught), recipe.rate * ground.task.rate
    optimiser = torch.optim.AdamW(parameter_groups(model, recipe.decay), lr=rate, fused=True)
    factor = factor or (lambda step: one_cycle((step + 1) / steps, recipe.rise))
    model.train()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * factor(step)
        rows = batches()
        outputs = model(batches.inputs[rows])
        losses = ground.data.loss(outputs, batches.targets[rows])
        loss = (
            losses.mean()
            if taught is None
            else blend(
                losses, outputs, taught.outputs[rows], batches.targets[rows], taught.labelled[rows]
            ).mean()
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        spent.step(macs, ground.task.batch)
    model.eval()


def one_cycle(done: float, rise: float) -> float:
    """Up over a part of a training, down to zero by a cosine."""
    return done / rise if done < rise else (1 + math.cos(math.pi * (done - rise) / (1 - rise))) / 2


def fresh(ground: Ground, genome: np.ndarray, seed: int) -> nn.Module:
    """A mask's network with weights drawn anew."""
    torch.manual_seed(seed)
    model = ground.space.build(genome)
    for module in model.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
    for name, table in model.named_modules():
        if isinstance(table, nn.Embedding) and name:
            nn.init.normal_(table.weight, std=0.3)
    return model


def narrow(ground: Ground, shares: Sequence[float] | np.ndarray) -> np.ndarray:
    """The mask that keeps the first channels of every group, by its share, at least one."""
    genome = np.zeros(ground.space.length, dtype=np.uint8)
    for part, share in zip(ground.space.slices.values(), shares, strict=True):
        genome[part.start : part.start + max(1, round(share * (part.stop - part.start)))] = 1
    return ground.space.repair(genome[None])[0]


def chosen(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats on the search split, smallest first."""
    values = np.array([[p.search, p.macs] for p in points])
    return sorted(
        (points[int(i)] for i in np.flatnonzero(moocore.is_nondominated(values, keep_weakly=False))),
        key=lambda p: p.macs,
    )


def hypervolume(points: Sequence[Point], split: str = "test") -> float:
    """Area over (loss / the constant predictor's, ln of MACs / unpruned) to the reference (1, 0), of points
    chosen on search.
    """
    values = np.array([[getattr(p, split), np.log(p.macs)] for p in chosen(points)])
    return float(moocore.hypervolume(values, ref=np.array([1.0, 1e-9])))
