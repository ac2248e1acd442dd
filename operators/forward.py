"""Calling a model with what a batch holds."""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn


def forward(model: nn.Module, inputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Return the outputs for a batch's inputs, one tensor or a tuple of arguments, moved to where the model
    is.
    """
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    device = device_of(model)
    return model(*(argument.to(device) for argument in arguments))


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's first parameter or buffer; the CPU for a model that has none."""
    tensor = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device
