"""What the channels of a candidate are worth, for mutations that prune its children: tried, or by a
criterion.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evaluators.cost.planned import PlannedCosts
from evaluators.data.base import Data
from operators.criteria import Criterion, Magnitude, Taylor, score_all
from operators.criteria.normalisation import NORMALISATIONS, Normalisation, normalised
from operators.repair.batchnorm import recalibrate
from spaces.calling import device_of, forward, mode, placed
from spaces.channels import ChannelSpace
from spaces.errors import InputError
from spaces.structures import samples

_BATCH = 256


class Worth(ABC):
    """Says what every channel of a trained model is worth."""

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"
        )

    @abstractmethod
    def __call__(
        self, space: ChannelSpace, genome: np.ndarray, model: nn.Module, data: Data, training: float
    ) -> tuple[dict[str, np.ndarray], float]:
        """Return ``removal``, what is lost without each locus, and ``cost``, the share of the model's MACs
        that goes with it, both ``(length,)``, and the sample passes that it took, in forward passes of the
        model.

        Both are NaN for loci that are not kept, or that cannot go alone.

        Args:
            model: of the genome; it comes back unchanged.
            training: sample passes that the model's training took.
        """


class CriterionWorth(Worth):
    """A criterion's scores, made comparable between groups. [P]

    Args:
        criterion: on the calibration split; by default the norm of what makes a channel.
        normalisation: ``mean``, over the mean of the group's kept channels, or ``lamp``: see
            :func:`operators.criteria.normalisation.normalised`.

    Raises:
        InputError: another normalisation.
    """

    def __init__(self, criterion: Criterion | None = None, normalisation: Normalisation = "mean") -> None:
        if normalisation not in NORMALISATIONS:
            raise InputError(
                f"CriterionWorth: normalisation {normalisation!r}; expected {' or '.join(NORMALISATIONS)}"
            )
        self.criterion, self.normalisation = criterion or Magnitude(), normalisation

    def __call__(
        self, space: ChannelSpace, genome: np.ndarray, model: nn.Module, data: Data, training: float
    ) -> tuple[dict[str, np.ndarray], float]:
        _, costs = _costs(space, genome)
        plain = isinstance(self.criterion, Magnitude)  # looks at no data
        batches = [] if plain else list(data.batches("calibration", _BATCH))
        found = score_all([self.criterion], _whole(space, genome, model), batches, space.plan, data.loss)[
            self.criterion.name
        ]
        worth = np.full(len(genome), np.nan)
        for part in space.slices.values():
            kept = genome[part] == 1
            worth[part][kept] = normalised(
                np.asarray(found[part][kept], dtype=np.float64), self.normalisation
            )
        worth[np.isnan(costs)] = np.nan
        return {"removal": worth, "cost": costs}, 0.0 if plain else 3.0 * data.size("calibration")


class RemovalTrials(Worth):
    """Tries, on held-out samples, by how much the loss rises without each channel, for
    :class:`operators.mutation.RemovalPruning`. [O]

    The child that lacks the channel is built with its model's weights and run, so that whatever reads the
    channel counts (heads, the width of a transformer, a concat), at the cost of a forward pass a channel.
    Where that is more than `share` of what training the model takes, or a group is counted in multiples so
    that its channels go together, :class:`~operators.criteria.Taylor`'s estimate stands in for it: one
    gradient.

    Args:
        cases: samples of the calibration split, the first ones.
        share: largest part of the training's MACs that trying may take.
        recalibrate: whether every child gets its own statistics of BatchNorm, of the same samples; it doubles
            the cost.

    Raises:
        InputError: a setting out of its range.
    """

    def __init__(self, cases: int = 64, share: float = 0.2, recalibrate: bool = True) -> None:
        for name, value, least in (("cases", cases, 2), ("share", share, 0)):
            if value < least:
                raise InputError(f"RemovalTrials: {name} {value}; expected at least {least}")
        self.cases, self.share, self.recalibrate = cases, share, recalibrate

    def __call__(
        self, space: ChannelSpace, genome: np.ndarray, model: nn.Module, data: Data, training: float
    ) -> tuple[dict[str, np.ndarray], float]:
        inputs, targets = next(data.batches("calibration", self.cases))
        alone, costs = _costs(space, genome)
        rises = np.full(len(genome), np.nan)
        norms = self.recalibrate and has_norms(model)
        count = samples(targets, inputs)
        passes = len(alone) * count * (2 if norms else 1)
        together = np.isfinite(costs).sum() > len(alone)
        full = space.scatter(genome, model.state_dict(), _nothing(space))
        if together or passes > self.share * training:
            whole = _whole(space, genome, model)
            rises = score_all([Taylor()], whole, [(inputs, targets)], space.plan, data.loss)["taylor"]
            rises[np.isnan(costs)] = np.nan
            return {"removal": rises, "cost": costs}, 3.0 * count
        before = _loss(model, data, inputs, targets)
        for locus in alone:
            child = genome.copy()
            child[locus] = 0
            lacking = space.build(child).to(device_of(model))
            lacking.load_state_dict(space.gather(child, full))
            if norms:
                recalibrate(lacking, [(inputs, targets)])
            rises[locus] = _loss(lacking, data, inputs, targets) - before
        return {"removal": rises, "cost": costs}, float(passes)


def has_norms(model: nn.Module) -> bool:
    """Whether there is a BatchNorm, whose statistics want recalibration."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def _costs(space: ChannelSpace, genome: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the loci that can go alone, and the share of the MACs that goes with each locus, ``(length,)``:
    its part where a group is counted in multiples and loci go together; NaN for those that have to stay.
    """
    kept = np.flatnonzero(genome)
    children = np.repeat(genome[None], len(kept), axis=0)
    children[np.arange(len(kept)), kept] = 0
    valid = (space.repair(children) == children).all(axis=1)
    planned = PlannedCosts(space.plan)
    macs = planned(np.vstack([genome[None], children[valid]]))["macs"]
    costs = np.full(len(genome), np.nan)
    costs[kept[valid]] = 1 - macs[1:] / macs[0]
    for part in space.slices.values():
        together = kept[(kept >= part.start) & (kept < part.stop) & ~valid]
        smaller = _next_smaller(space, genome, together)
        if smaller is not None:
            least = planned(smaller[None])["macs"][0] / macs[0]
            costs[together] = (1 - least) / (genome.sum(dtype=int) - smaller.sum(dtype=int))
    return kept[valid], costs


def _next_smaller(space: ChannelSpace, genome: np.ndarray, loci: np.ndarray) -> np.ndarray | None:
    """Return the genome without as few of these loci as the space accepts; None where it accepts none."""
    smaller = np.repeat(genome[None], len(loci), axis=0)
    smaller[:, loci] = ~np.tri(len(loci), dtype=bool)
    accepted = np.flatnonzero((space.repair(smaller) == smaller).all(axis=1))
    return smaller[accepted[0]] if len(accepted) else None


def _whole(space: ChannelSpace, genome: np.ndarray, model: nn.Module) -> nn.Module:
    """Return the full model that computes what a compact one does: the other channels are silent."""
    whole = space.build(np.ones_like(genome)).to(device_of(model))
    whole.load_state_dict(space.scatter(genome, model.state_dict(), _nothing(space)))
    return whole


def _nothing(space: ChannelSpace) -> Mapping[str, Tensor]:
    """Full tensors of a model all of whose channels are silent."""
    return {
        name: torch.ones_like(tensor) if name.endswith("running_var") else torch.zeros_like(tensor)
        for name, tensor in space.model.state_dict().items()
    }


def _loss(model: nn.Module, data: Data, inputs: Any, targets: Any) -> float:
    with mode(model, False), torch.inference_mode():
        return float(data.loss(forward(model, inputs), placed(targets, device_of(model))).double().mean())
