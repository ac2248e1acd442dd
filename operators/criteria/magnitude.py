"""Importance by the size of the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from operators.criteria.acting import Weights, acting_weights
from operators.criteria.base import Batches, Criterion, Loss
from operators.criteria.examination import by_segment
from spaces.channels.plan import AxisSlice, SlicePlan
from spaces.errors import InputError


class Magnitude(Criterion):
    """Norm of all filters that produce a channel, ``(sum |w|^p)^(1/p)``; several producers of a residual sum
    count together.

    Source: L1 norms of filters, Li et al. 2017 (arXiv 1608.08710) [P]; L2 over the producers of a coupled
    group as in DepGraph, Fang et al. 2023 (arXiv 2301.12900) [P]. A segment that no weight produces is scored
    by whatever parameters it slices. Weights are those that act: masks, norms, parametrisations and low-rank
    additions are part of them (:mod:`operators.criteria.acting`). [O]

    Args:
        p: order of the norm.
    """

    name = "magnitude"

    def __init__(self, p: float = 2.0) -> None:
        if p <= 0:
            raise InputError(f"Magnitude: p must be above 0, got {p}")
        self.p = p

    def score(self, model: nn.Module, batches: Batches, plan: SlicePlan, loss: Loss) -> dict[str, Tensor]:
        axes, weights = acting_weights(model, plan)
        produced = self._powers([axis for axis in axes if axis.role == "out"], weights, plan)
        touched = self._powers(axes, weights, plan)
        unproduced = set(plan.starts) - {name for name, part in plan.starts.items() if produced[part].any()}
        for name in unproduced:
            produced[plan.starts[name]] = touched[plan.starts[name]]
        return by_segment(produced ** (1 / self.p), plan)

    def _powers(self, axes: list[AxisSlice], weights: Weights, plan: SlicePlan) -> Tensor:
        """Return the sum of ``|w|^p`` over all positions of a locus, float64 of shape ``(length,)``."""
        total = torch.zeros(plan.length, dtype=torch.float64)
        for axis in axes:
            weight = weights[axis.tensor].detach().to("cpu", torch.float64)
            sums = weight.movedim(axis.dim, 0).reshape(len(axis.loci), -1).abs().pow(self.p).sum(dim=1)
            loci = torch.from_numpy(axis.loci)
            total.index_add_(0, loci[loci >= 0], sums[loci >= 0])
        return total
