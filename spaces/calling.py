"""How a model is called: with what a batch holds, on its own device, in training or eval mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Put every module in training or eval mode, and back into its own afterwards."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was in before:
            if type(module).train is not nn.Module.train:  # it does more than to note the mode
                module.train(was)
        for module, was in before:
            module.training = was


@contextmanager
def gradients() -> Iterator[None]:
    """Let torch record what is computed, whatever the caller's mode (``no_grad``, ``inference_mode``), which
    comes back afterwards.
    """
    with torch.inference_mode(False), torch.enable_grad():
        yield
