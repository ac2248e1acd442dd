"""Loss and metrics of a model on a split: the one place where they are averaged."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from evaluators.data.base import Data, Inputs
from spaces.calling import device_of, forward, mode


def assess(model: nn.Module, data: Data, batches: Iterable[tuple[Inputs, Tensor]]) -> dict[str, float]:
    """Return ``loss`` and the data's metrics, averaged over the samples of `batches` in float64.

    The model runs in eval mode without gradients and comes back in the modes that it had.
    """
    totals: dict[str, Tensor] = {}
    samples = 0
    device = device_of(model)
    with mode(model, False), torch.inference_mode():
        for inputs, targets in batches:
            targets = targets.to(device)
            outputs = forward(model, inputs)
            samples += len(targets)
            for name, values in {
                "loss": data.loss(outputs, targets),
                **data.metrics(outputs, targets),
            }.items():
                total = values.sum(dtype=torch.float64)
                totals[name] = totals[name] + total if name in totals else total
    return {name: total.item() / samples for name, total in totals.items()}
