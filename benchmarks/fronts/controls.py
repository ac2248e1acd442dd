"""Controls at equal MACs: pruning by magnitude once and in rounds, and networks from scratch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.fronts.arms import (
    RECIPE,
    Arm,
    Lessons,
    Point,
    Recipe,
    Spent,
    epochs_for,
    fresh,
    lessons,
    measured,
    narrow,
    train,
)
from benchmarks.fronts.tasks import Ground
from evaluators.cost.counting import count
from operators.criteria import Criterion, Magnitude
from operators.criteria.scoring import score_all

Share = Literal["macs", "epochs", "between"]
"""Whether networks of several sizes get equal MACs, equal epochs, or the geometric mean of both."""
_POWER = {"macs": 0.0, "between": 0.5, "epochs": 1.0}


def parts(macs: Sequence[float] | np.ndarray, share: Share) -> np.ndarray:
    """Parts of a budget for networks of these costs."""
    weights = np.asarray(macs, dtype=float) ** _POWER[share]
    return weights / weights.sum()


class Weights:
    """The unpruned network's tensors, and a mask's part of them."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.full: dict[str, Tensor] = {
            name: t.clone() for name, t in ground.space.model.state_dict().items()
        }

    def model(self, genome: np.ndarray) -> nn.Module:
        """A mask's network, with its part of the tensors."""
        model = self.ground.space.build(genome)
        model.load_state_dict(self.ground.space.gather(genome, self.full))
        return model

    def take(self, genome: np.ndarray, model: nn.Module) -> None:
        """Put a trained network's tensors in their places."""
        self.full = self.ground.space.scatter(genome, model.state_dict(), self.full)

    def whole(self) -> nn.Module:
        """The unpruned network with these tensors."""
        model = copy.deepcopy(self.ground.space.model)
        model.load_state_dict(self.full)
        return model


def scores(weights: Weights, criterion: Criterion) -> np.ndarray:
    """Of every locus, over its group's mean, ``(length,)``."""
    space, data = weights.ground.space, weights.ground.data
    (found,) = score_all(
        [criterion], weights.whole(), data.batches("calibration", 256), space.plan, data.loss
    ).values()
    found = np.asarray(found, dtype=float).copy()
    for part in space.slices.values():
        found[part] /= max(found[part].mean(), 1e-12)
    return found


def kept(ground: Ground, genome: np.ndarray, scores: np.ndarray, macs: float) -> np.ndarray:
    """The mask of the best loci of `genome` that costs at most so much, as far as there is one; no group
    falls empty.
    """
    order = np.flatnonzero(genome)[np.argsort(scores[genome == 1], kind="stable")]
    masks = np.repeat(genome[None], len(order), axis=0)
    for row, mask in enumerate(masks):
        mask[order[:row]] = 0
        for part in ground.space.slices.values():
            if not mask[part].any():
                mask[part.start + int(np.argmax(np.where(genome[part] == 1, scores[part], -np.inf)))] = 1
    masks = ground.space.repair(masks)
    fits = np.flatnonzero(ground.costs(masks) <= macs)
    return masks[fits[0] if len(fits) else -1]


@dataclass
class Pruning(Arm):
    """Train the unpruned network, then prune and train on, in rounds (Han et al. 2015, by channels) or once
    for every size.

    Attributes:
        once: every size is pruned from the unpruned network.
        dense: share of the budget before the first pruning.
        rounds: sizes; MACs fall in equal ratios down to what every pruning arm goes down to.
        later: learning rate of the rounds over the first one's.
        distilled: share of the unpruned network in the loss of what is pruned.
        repeats: see :meth:`benchmarks.fronts.tasks.Ground.mixtures`, which it is asked of as well, as in
            ours; 0: there are none.
    """

    kind = "pruning"
    name: str
    once: bool = False
    dense: float = 0.2
    rounds: int = 30
    later: float = 0.5
    recipe: Recipe = RECIPE
    share: Share = "between"
    criterion: Criterion = field(default_factory=Magnitude)
    distilled: float = 0.0
    repeats: float = 0.0

    def run(self, ground: Ground, budget: float) -> tuple[list[Point], float]:
        spent, weights, points = Spent(budget), Weights(ground), []
        generator = torch.Generator().manual_seed(ground.seed)
        genome = np.ones(ground.space.length, dtype=np.uint8)
        points.append(
            self._trained(ground, weights, genome, self.dense * budget, self.recipe, spent, generator)
        )
        later = replace(self.recipe, rate=self.recipe.rate * self.later)
        sizes = np.geomspace(1, ground.smallest, self.rounds + 1)[1:]
        dense = scores(weights, self.criterion)
        taught = lessons(ground, weights.whole(), spent, self.repeats) if self.distilled else None
        full, left = weights.full, spent.left
        for size, part in zip(sizes, parts(sizes, self.share), strict=True):
            if self.once:
                weights.full, genome = full, kept(ground, np.ones_like(genome), dense, size)
            else:
                genome = kept(ground, genome, scores(weights, self.criterion), size)
            points.append(
                self._trained(
                    ground, weights, genome, min(left * part, spent.left), later, spent, generator, taught
                )
            )
        return points, spent.total

    def _trained(
        self,
        ground: Ground,
        weights: Weights,
        genome: np.ndarray,
        budget: float,
        recipe: Recipe,
        spent: Spent,
        generator: torch.Generator,
        taught: Lessons | None = None,
    ) -> Point:
        model, macs = weights.model(genome), ground.macs(genome)
        steps = epochs_for(ground, budget, macs)
        train(ground, model, macs, steps, recipe, spent, generator, taught=taught, share=self.distilled)
        weights.take(genome, model)
        return measured(ground, model, macs, spent)


@dataclass
class FromScratch(Arm):
    """Networks of several sizes, each from scratch.

    Attributes:
        sizes: how many; widths fall in equal ratios from the unpruned network's to `smallest` of it.
        random: widths of every group are drawn on their own, log-uniformly.
        shelf: networks of another make.
        dense: share of the budget that trains the unpruned network first, which the others then learn from;
            0: nothing is distilled.
        distilled: its share in their loss.
        repeats: as in :class:`Pruning`.
    """

    kind = "from scratch"
    name: str
    sizes: int = 10
    smallest: float = 0.06
    largest: float = 1.0
    recipe: Recipe = RECIPE
    share: Share = "between"
    random: bool = False
    shelf: bool = False
    dense: float = 0.0
    distilled: float = 1.0
    repeats: float = 0.0

    def run(self, ground: Ground, budget: float) -> tuple[list[Point], float]:
        spent, points = Spent(budget), list[Point]()
        made = self._networks(ground)
        generator = torch.Generator().manual_seed(ground.seed)
        taught = None
        if self.dense:
            teacher = fresh(ground, np.ones(ground.space.length, dtype=np.uint8), ground.seed)
            steps = epochs_for(ground, self.dense * budget, 1.0)
            train(ground, teacher, 1.0, steps, self.recipe, spent, generator)
            points.append(measured(ground, teacher, 1.0, spent))
            taught, made, budget = lessons(ground, teacher, spent, self.repeats), made[1:], spent.left
        for number, ((macs, make), part) in enumerate(
            zip(made, parts([macs for macs, _ in made], self.share), strict=True)
        ):
            model = make(1000 * ground.seed + number)
            steps = epochs_for(ground, budget * part, macs)
            train(
                ground, model, macs, steps, self.recipe, spent, generator, taught=taught, share=self.distilled
            )
            points.append(measured(ground, model, macs, spent))
        return points, spent.total

    def _networks(self, ground: Ground) -> list[tuple[float, Callable[[int], nn.Module]]]:
        ratios, groups = np.geomspace(self.largest, self.smallest, self.sizes), len(ground.space.segments)
        if self.shelf:
            return [self._shelf(ground, ratio) for ratio in ratios]
        if self.random:
            rng = np.random.default_rng(ground.seed)
            genomes = [narrow(ground, np.exp(rng.uniform(np.log(self.smallest), 0, groups))) for _ in ratios]
        else:
            genomes = [narrow(ground, [ratio] * groups) for ratio in ratios]
        return [
            (ground.macs(genome), lambda seed, genome=genome: fresh(ground, genome, seed))
            for genome in genomes
        ]  # type: ignore[misc]

    def _shelf(self, ground: Ground, ratio: float) -> tuple[float, Callable[[int], nn.Module]]:
        def make(seed: int) -> nn.Module:
            torch.manual_seed(seed)
            return ground.task.shelf(ratio)

        return count(make(0), ground.data.example())["macs"] / ground.unit, make
