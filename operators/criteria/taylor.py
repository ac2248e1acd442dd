"""Importance by what a channel's removal does to the loss, to first order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from operators.criteria.base import Batches, Criterion, Loss
from operators.criteria.examination import by_segment, examined
from operators.criteria.watching import watched
from spaces.calling import device_of, forward, placed
from spaces.channels.plan import SlicePlan, Tap
from spaces.errors import InputError


class Taylor(Criterion):
    """Mean over samples of ``|sum of a * g|``: a gate on the channel, closed, changes a sample's loss by that
    much to first order.

    Source: Molchanov et al. 2017 (arXiv 1611.06440, eq. 8) [P], with sums for their means over positions, so
    that layers of different resolution are compared in units of the loss. Within a sample the positions, and
    the producers of a residual sum, are summed before the absolute value, because they go together and may
    cancel; samples never are: over a trained model's data gradients cancel, and ``|sum|`` would be noise
    (METHODS 5). At an interpolating model gradients vanish and the criterion is weak: use held-out data.
    """

    name = "taylor"

    def score(self, model: nn.Module, batches: Batches, plan: SlicePlan, loss: Loss) -> dict[str, Tensor]:
        total, samples = torch.zeros(plan.length, dtype=torch.float64), 0
        with examined(model), torch.enable_grad(), _tapped(model, plan) as outputs:
            for inputs, targets in batches:
                outputs.clear()
                losses = loss(forward(model, inputs), placed(targets, device_of(model)))
                total += _gate_effects(losses, outputs, plan.length).abs().sum(dim=0).double().cpu()
                samples += len(losses)
        return by_segment(total / max(samples, 1), plan)


def _gate_effects(losses: Tensor, outputs: list[tuple[Tap, Tensor]], length: int) -> Tensor:
    """Return the derivative of each sample's loss by the gate of each locus, ``(batch, length)``."""
    effects = torch.zeros(len(losses), length, device=losses.device)
    reached = [(tap, output) for tap, output in outputs if output.requires_grad]
    if not reached or not losses.requires_grad:
        return effects
    gradients = torch.autograd.grad(losses.sum(), [output for _, output in reached], allow_unused=True)
    for (tap, output), gradient in zip(reached, gradients, strict=True):
        if gradient is not None:
            products = _by_sample(tap, output.detach() * gradient, len(losses))
            for loci in torch.from_numpy(tap.levels()).to(output.device):
                effects.index_add_(1, loci[loci >= 0], products[:, loci >= 0])
    return effects


def _by_sample(tap: Tap, products: Tensor, batch: int) -> Tensor:
    """Sum over all but samples and channels, float32 of shape ``(batch, channels)``; rows such as windows
    belong to samples in order.
    """
    rows = products.movedim(tap.dim, -1)
    if len(rows) % batch:
        raise InputError(
            f"taylor: the output of {tap.module!r} has {len(rows)} rows for {batch} samples; its first axis "
            f"must be the batch"
        )
    return rows.reshape(batch, -1, rows.shape[-1]).sum(dim=1, dtype=torch.float32)


@contextmanager
def _tapped(model: nn.Module, plan: SlicePlan) -> Iterator[list[tuple[Tap, Tensor]]]:
    """Collect the outputs of the plan's taps in the order in which they appear; they take part in gradients
    even in a frozen model.
    """
    outputs: list[tuple[Tap, Tensor]] = []

    def collect(index: int, output: Tensor) -> Tensor:
        kept = output if output.requires_grad else output.detach().requires_grad_()
        outputs.append((plan.taps[index], kept))
        return kept.clone()  # the model may go on in place (ReLU, +=)

    with watched(model, plan, collect):
        yield outputs
