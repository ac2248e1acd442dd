"""Levels by evolution, as in EvoPress (Sieberling et al. 2024, arXiv 2410.14649) and DarwinLM (Tang et al.
2025, arXiv 2502.07780) [P].

Every group has a level, how many of its channels are gone; which ones follows from a score. A child switches
levels: one group gets some back, others lose as much. Of many children those that are best on few texts are
looked at on more, and one is left, which replaces its parent if it is better. As in DarwinLM the last are
compared after a few steps of training.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from benchmarks.real.arms import Mask, best_of
from benchmarks.real.ground import Clock, Ground
from evaluators.training.optimisation import make_optimiser
from operators.criteria import Taylor
from spaces.calling import forward

LEVELS = 12
SHARE = 0.25
"""Of the time that it may take."""


class Levels(Mask):
    """Evolution by switching levels.

    Args:
        children: of a generation.
        rounds: how many are left after a look, and at how many pairs of the search split.
        steps: of training before the last look.
        last: pairs of that look.
    """

    name = "level switching"

    def __init__(
        self,
        children: int = 16,
        rounds: Sequence[tuple[int, int]] = ((4, 16), (1, 64)),
        steps: int = 4,
        last: int = 200,
    ) -> None:
        self.children, self.rounds, self.steps, self.last = children, tuple(rounds), steps, last

    def choose(self, ground: Ground, clock: Clock, rng: np.random.Generator) -> np.ndarray:
        scores = ground.scores(Taylor())
        groups = [*ground.space.slices.values()]
        parent = np.full(len(groups), LEVELS // 2)
        while ground.macs(mask_of(ground, parent, scores)[None])[0] > ground.limit:
            parent[rng.integers(len(parent))] -= 1
        best = self._loss(ground, parent, scores, self.last, self.steps)
        while True:
            drawn = (self._switched(ground, parent, scores, rng) for _ in range(self.children))
            alive = [*{child.tobytes(): child for child in drawn}.values()]
            for left, pairs in self.rounds:
                losses = [self._loss(ground, child, scores, pairs) for child in alive]
                alive = [alive[place] for place in np.argsort(losses, kind="stable")[:left]]
            losses = [self._loss(ground, child, scores, self.last, self.steps) for child in alive]
            if min(losses) < best:
                best, parent = min(losses), alive[int(np.argmin(losses))]
            clock.note()
            if clock.spent >= SHARE * clock.budget:
                return mask_of(ground, parent, scores)

    def _switched(
        self, ground: Ground, parent: np.ndarray, scores: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Return levels with one group larger, and others smaller until the limit is met."""
        child = parent.copy()
        for _ in range(min(rng.integers(1, 4, 2))):
            grown = rng.choice(np.flatnonzero(child < LEVELS))
            child[grown] += 1
            while ground.macs(mask_of(ground, child, scores)[None])[0] > ground.limit:
                others = np.flatnonzero((child > 1) & (np.arange(len(child)) != grown))
                child[rng.choice(others)] -= 1
        return child

    def _loss(
        self, ground: Ground, levels: np.ndarray, scores: np.ndarray, pairs: int, steps: int = 0
    ) -> float:
        model = ground.space.build(mask_of(ground, levels, scores))
        if steps:
            model = trained(model, ground, steps)
        return ground.loss(model, pairs)


def mask_of(ground: Ground, levels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the mask with so many twelfths of every group, the best of it."""
    sizes = [part.stop - part.start for part in ground.space.slices.values()]
    return best_of(ground, np.maximum(1, levels * sizes // LEVELS), scores)


def trained(model: nn.Module, ground: Ground, steps: int) -> nn.Module:
    """Return a copy after so many steps on the first training texts of one order."""
    model = copy.deepcopy(model).train()
    optimiser = make_optimiser("adamw", model, 1e-4, 0.0)
    batches = ground.data.batches("train", 64, torch.Generator().manual_seed(0))
    for _, (inputs, targets) in zip(range(steps), batches, strict=False):
        optimiser.zero_grad()
        ground.data.loss(forward(model, inputs), targets).mean().backward()
        optimiser.step()
    return model.eval()
