"""Controls from elsewhere: Torch-Pruning's global Taylor in rounds, Optuna over shares of the groups,
regularised evolution.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import optuna
import torch
import torch_pruning
from torch import nn

from benchmarks.fronts.arms import RECIPE, Arm, Point, Recipe, Spent, chosen, epochs_for, measured, train
from benchmarks.fronts.controls import Share, Weights, parts, scores
from benchmarks.fronts.tasks import Ground
from evaluators.cost.counting import count
from operators.criteria import Magnitude


@dataclass
class TorchPruning(Arm):
    """Torch-Pruning's global pruner with its group Taylor importance on the calibration split, in rounds, and
    training after each.

    It cannot tell heads within one layer of queries, keys and values: those layers stay as wide as they are.

    Attributes:
        dense: share of the budget before the first pruning.
        rounds: MACs fall in equal ratios, as near as steps of a channel come.
    """

    kind = "Torch-Pruning"
    name: str = "Torch-Pruning, iterative Taylor"
    dense: float = 0.2
    rounds: int = 16
    later: float = 0.5
    recipe: Recipe = RECIPE
    share: Share = "epochs"

    def run(self, ground: Ground, budget: float) -> tuple[list[Point], float]:
        spent, points = Spent(budget), []
        generator = torch.Generator().manual_seed(ground.seed)
        model = copy.deepcopy(ground.space.model)
        sizes = np.geomspace(1, ground.smallest, self.rounds + 1)
        shares = [self.dense * budget, *((1 - self.dense) * budget * parts(sizes[1:], self.share))]
        for number, (size, part) in enumerate(zip(sizes, shares, strict=True)):
            before = spent.total
            if number and not self._prune(ground, model, size, spent):
                break
            macs = self._macs(ground, model)
            recipe = self.recipe if not number else replace(self.recipe, rate=self.recipe.rate * self.later)
            left = min(part - (spent.total - before), spent.left)
            train(ground, model, macs, epochs_for(ground, left, macs), recipe, spent, generator)
            points.append(measured(ground, model, macs, spent))
        return points, spent.total

    def _prune(self, ground: Ground, model: nn.Module, size: float, spent: Spent) -> bool:
        """Take channels until the model is small enough; False where none can go any more."""
        inputs, targets = ground.whole("calibration")
        macs = before = self._macs(ground, model)
        while macs > size:
            model.zero_grad()
            model.eval()
            ground.data.loss(model(inputs), targets).mean().backward()
            spent.step(macs, len(inputs))
            pruner = torch_pruning.pruner.BasePruner(
                model,
                ground.data.example(),
                importance=torch_pruning.importance.GroupTaylorImportance(),
                global_pruning=True,
                pruning_ratio=min(0.9, max(0.02, 1 - (size / macs) ** 0.5)),
                max_pruning_ratio=0.99,
                ignored_layers=[
                    module for name, module in model.named_modules() if name == "head" or name.endswith("qkv")
                ],
            )
            pruner.step()
            now = self._macs(ground, model)
            if now >= macs:
                break
            macs = now
        model.zero_grad()
        return macs < before

    @staticmethod
    def _macs(ground: Ground, model: nn.Module) -> float:
        return count(model, ground.data.example())["macs"] / ground.unit


Suggest = Callable[[int], list[float]]


@dataclass
class Searched(Arm):
    """Search over the kept share of every group, the largest channels of a trained network within a group,
    each candidate trained briefly; the front of the search is trained on with what is left.

    Attributes:
        method: Optuna's TPE or NSGA-II, or regularised evolution (Real et al. 2019, arXiv 1802.01548) on
            scalarised losses.
        dense: share of the budget for the unpruned network.
        search: share of the budget for candidates.
        steps: gradient steps of a candidate.
        finals: members of the front that are trained on.
    """

    kind = "search over shares"
    name: str
    method: Literal["tpe", "nsga2", "regularised"]
    dense: float = 0.15
    search: float = 0.45
    steps: int = 20
    finals: int = 12
    recipe: Recipe = RECIPE

    def run(self, ground: Ground, budget: float) -> tuple[list[Point], float]:
        spent, weights = Spent(budget), Weights(ground)
        generator = torch.Generator().manual_seed(ground.seed)
        whole = weights.model(np.ones(ground.space.length, dtype=np.uint8))
        train(ground, whole, 1.0, epochs_for(ground, self.dense * budget, 1.0), self.recipe, spent, generator)
        weights.take(np.ones(ground.space.length, dtype=np.uint8), whole)
        points = [measured(ground, whole, 1.0, spent)]
        worth = scores(weights, Magnitude())
        found: list[tuple[Point, np.ndarray, nn.Module]] = []

        def tried(shares: list[float]) -> Point:
            genome = _largest(ground, worth, shares)
            model, macs = weights.model(genome), ground.macs(genome)
            train(ground, model, macs, self.steps, self.recipe, spent, generator)
            found.append((measured(ground, model, macs, spent), genome, model))
            return found[-1][0]

        self._search(ground, tried, spent, self.dense * budget + self.search * budget)
        best = _spread([f for f in found if f[0] in set(chosen([p for p, _, _ in found]))], self.finals)
        left = spent.left
        for (_, genome, model), part in zip(
            best, parts([p.macs for p, _, _ in best], "between"), strict=True
        ):
            macs = ground.macs(genome)
            steps = epochs_for(ground, min(left * part, spent.left), macs)
            train(ground, model, macs, steps, self.recipe, spent, generator)
            points.append(measured(ground, model, macs, spent))
        return points + [p for p, _, _ in found], spent.total

    def _search(
        self, ground: Ground, tried: Callable[[list[float]], Point], spent: Spent, until: float
    ) -> None:
        groups, low = len(ground.space.segments), 0.05
        dearest = 1.2 * (3 * self.steps * ground.task.batch + ground.data.size("search"))
        if self.method == "regularised":
            rng, members = np.random.default_rng(ground.seed), deque[tuple[np.ndarray, Point]](maxlen=24)
            while spent.total + dearest < until:
                if len(members) < 24:
                    shares = np.exp(rng.uniform(np.log(low), 0, groups))
                else:
                    weight = rng.uniform(0, 1)  # a direction of the trade-off for every tournament
                    drawn = [members[i] for i in rng.choice(len(members), 6, replace=False)]
                    shares = min(
                        drawn, key=lambda m: weight * m[1].search + (1 - weight) * 0.2 * np.log(m[1].macs)
                    )[0].copy()
                    shares[rng.integers(groups)] = np.exp(rng.uniform(np.log(low), 0))
                members.append((shares, tried(shares.tolist())))
            return
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler: optuna.samplers.BaseSampler = (
            optuna.samplers.TPESampler(seed=ground.seed)
            if self.method == "tpe"
            else optuna.samplers.NSGAIISampler(population_size=24, seed=ground.seed)
        )
        study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
        while spent.total + dearest < until:
            trial = study.ask()
            point = tried(
                [trial.suggest_float(segment.name, low, 1, log=True) for segment in ground.space.segments]
            )
            study.tell(trial, [point.search, float(np.log(point.macs))])


def _largest(ground: Ground, worth: np.ndarray, shares: list[float]) -> np.ndarray:
    """The mask of the best channels of every group, by its share."""
    genome = np.zeros(ground.space.length, dtype=np.uint8)
    for part, share in zip(ground.space.slices.values(), shares, strict=True):
        size = part.stop - part.start
        genome[part.start + np.argsort(-worth[part], kind="stable")[: max(1, round(share * size))]] = 1
    return ground.space.repair(genome[None])[0]


def _spread(
    found: list[tuple[Point, np.ndarray, nn.Module]], n: int
) -> list[tuple[Point, np.ndarray, nn.Module]]:
    """At most `n` of a front, evenly by rank of MACs."""
    found = sorted(found, key=lambda f: f[0].macs)
    rows = np.unique(np.linspace(0, len(found) - 1, min(n, len(found))).round().astype(int))
    return [found[i] for i in rows]
