"""The gradient of a batch, which may be computed in parts and in another precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spaces.structures import rows

if TYPE_CHECKING:
    from evaluators.training.settings import TrainingSettings


def backward(
    losses_of: Callable[..., Tensor],
    batch: tuple[Any, ...],
    count: int,
    settings: TrainingSettings,
    device: torch.device,
) -> Tensor:
    """Add the gradient of a batch's mean loss to the parameters' and return the losses ``(count,)``, without
    a graph.

    Args:
        losses_of: called with what `batch` holds, or with some of its samples; returns the loss of each.
        batch: structures of `count` samples.
        count: of the samples.
        settings: whose ``accumulation`` and ``precision`` count.
        device: that it is computed on.
    """
    size = math.ceil(count / (settings.accumulation or 1))
    found = []
    for start in range(0, count, size):
        part = batch if size == count else rows(batch, slice(start, start + size))
        with torch.autocast(device.type, torch.bfloat16, settings.precision == "bf16"):
            losses = losses_of(*part)
        (losses.mean() if size == count else losses.sum() / count).backward()
        found.append(losses.detach())
    return found[0] if len(found) == 1 else torch.cat(found)
