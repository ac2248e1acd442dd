"""Arms: how half of the multiply-accumulates are found, before the same distillation."""

from __future__ import annotations

import copy
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.real.ground import Clock, Ground
from operators.criteria import Magnitude, Taylor
from spaces.files import replacing

_HALVINGS = 14


class Arm(ABC):
    """One way to a model within the limit."""

    name: str

    @abstractmethod
    def prune(self, ground: Ground, clock: Clock, seed: int, folder: Path) -> nn.Module:
        """Return a model of at most half of the multiply-accumulates, not trained yet.

        The same again where it is called again for a run that was killed: `folder` may keep what took long.
        """


class Mask(Arm):
    """Chooses a mask, once."""

    def prune(self, ground: Ground, clock: Clock, seed: int, folder: Path) -> nn.Module:
        return ground.space.build(self.mask(ground, clock, seed, folder))

    def mask(self, ground: Ground, clock: Clock, seed: int, folder: Path) -> np.ndarray:
        """Return the mask ``(length,)``, from the folder where it was chosen before."""
        file = folder / "mask.npy"
        if not file.exists():
            found = self.choose(ground, clock, np.random.default_rng(seed))
            with replacing(file) as part, part.open("wb") as opened:
                np.save(opened, found)
            clock.note()
        return np.load(file)

    @abstractmethod
    def choose(self, ground: Ground, clock: Clock, rng: np.random.Generator) -> np.ndarray:
        """Return a mask within the limit, ``(length,)``."""


class Uniform(Mask):
    """The same share of every group, those of the largest Taylor score."""

    name = "uniform"

    def choose(self, ground: Ground, clock: Clock, rng: np.random.Generator) -> np.ndarray:
        return alike(ground, ground.scores(Taylor()))


class GlobalMagnitude(Mask):
    """The largest norms over their group's mean, wherever they are (Li et al. 2017 [P], globally)."""

    name = "magnitude"

    def choose(self, ground: Ground, clock: Clock, rng: np.random.Generator) -> np.ndarray:
        scores = ground.scores(Magnitude())
        for place in ground.space.slices.values():
            scores[place] /= scores[place].mean()
        return globally(ground, scores)


class RandomMask(Mask):
    """Shares of the groups and channels at random."""

    name = "random"

    def choose(self, ground: Ground, clock: Clock, rng: np.random.Generator) -> np.ndarray:
        weights = rng.uniform(0.5, 1.5, len(ground.space.segments))
        return alike(ground, rng.random(ground.space.length), weights)


class Scratch(Uniform):
    """The uniform network with weights drawn at random, embeddings too: a smaller model of the same cost."""

    name = "from scratch"

    def prune(self, ground: Ground, clock: Clock, seed: int, folder: Path) -> nn.Module:
        model = super().prune(ground, clock, seed, folder)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for module in model.modules():
                if isinstance(module, nn.Linear | nn.Embedding):
                    nn.init.normal_(module.weight, std=0.02)
                if isinstance(module, nn.Linear):
                    nn.init.zeros_(module.bias)
                if isinstance(module, nn.LayerNorm):
                    module.reset_parameters()
        return model


class Layers(Arm):
    """Half of the layers: of all choices the one of the least loss on the search split."""

    name = "three of six layers"

    def prune(self, ground: Ground, clock: Clock, seed: int, folder: Path) -> nn.Module:
        return min(map(self._without, itertools.repeat(ground), self._choices(ground)), key=ground.loss)

    def _choices(self, ground: Ground) -> list[tuple[int, ...]]:
        count = len(layers_of(ground.teacher))
        return list(itertools.combinations(range(count), count // 2))

    def _without(self, ground: Ground, chosen: tuple[int, ...]) -> nn.Module:
        model = copy.deepcopy(ground.teacher)
        layers = layers_of(model)
        model.model.encoder.layer = nn.ModuleList([layers[place] for place in chosen])  # type: ignore[union-attr]
        return model


class Whole(Arm):
    """The teacher itself, distilled from itself as long: what the training texts alone are worth. No arm."""

    name = "whole model"

    def prune(self, ground: Ground, clock: Clock, seed: int, folder: Path) -> nn.Module:
        return copy.deepcopy(ground.teacher)


def layers_of(model: nn.Module) -> nn.ModuleList:
    """Return the layers of a sentence encoder that is a BERT."""
    return model.get_submodule("model.encoder.layer")  # type: ignore[return-value]


def largest(ground: Ground, mask_of: Callable[[float], np.ndarray]) -> np.ndarray:
    """Return the largest mask within the limit of those that grow with a share, by halving."""
    low, high, best = 0.0, 1.0, mask_of(0.0)
    for _ in range(_HALVINGS):
        share = (low + high) / 2
        mask = mask_of(share)
        if ground.macs(mask[None])[0] <= ground.limit:
            low, best = share, mask
        else:
            high = share
    return best


def alike(ground: Ground, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the largest mask within the limit that keeps the same share of every group, the best of it.

    Args:
        scores: higher means keep, ``(length,)``.
        weights: of the groups, times which the share is taken; None: 1.
    """
    groups = [*ground.space.slices.values()]
    weights = np.ones(len(groups)) if weights is None else weights

    def mask_of(share: float) -> np.ndarray:
        sizes = [part.stop - part.start for part in groups]
        return best_of(ground, np.rint(np.clip(share * weights, 0, 1) * sizes).astype(int), scores)

    return largest(ground, mask_of)


def best_of(ground: Ground, counts: Sequence[int] | np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the mask with so many channels of every group, the best ones, as far as the space accepts it."""
    space, mask = ground.space, np.zeros(ground.space.length, dtype=np.uint8)
    for count, part in zip(counts, space.slices.values(), strict=True):
        mask[part.start : part.start + count] = 1
    accepted = space.repair(mask[None])[0]
    for part in space.slices.values():
        order = np.argsort(-scores[part], kind="stable")
        count = accepted[part].sum(dtype=int)
        mask[part] = 0
        mask[part.start + order[:count]] = 1
    return mask


def globally(ground: Ground, scores: np.ndarray) -> np.ndarray:
    """Return the largest mask within the limit of the best channels, wherever they are."""
    order = np.argsort(-scores, kind="stable")

    def mask_of(share: float) -> np.ndarray:
        chosen = np.zeros(len(scores), dtype=int)
        chosen[order[: round(share * len(order))]] = 1
        return best_of(ground, [chosen[part].sum() for part in ground.space.slices.values()], scores)

    return largest(ground, mask_of)
