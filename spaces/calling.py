"""How a model is called: with what a batch holds, on its own device, in training or eval mode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from spaces.structures import mapped

Inputs = Tensor | tuple[Any, ...] | Mapping[str, Any]
"""Of a batch: the only argument of ``forward``, a tuple of its arguments, or its arguments by their names."""
Example = tuple[Any, ...] | Mapping[str, Any]
"""The arguments of one forward call, in their order or by their names."""


def forward(model: nn.Module, inputs: Inputs) -> Any:
    """Return the outputs for a batch's inputs, moved to where the model is."""
    return call(model, placed(inputs, device_of(model)))


def call(model: Any, inputs: Inputs) -> Any:
    """Return what a model, or anything that is called as one, gives for a batch's inputs as they are."""
    arguments, named = arguments_of(inputs)
    return model(*arguments, **named)


def arguments_of(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call by their places, and those by their names."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


def example_of(inputs: Any) -> Example:
    """Return inputs as a tuple or a dict of the arguments of one call; a list counts as a tuple."""
    if isinstance(inputs, Mapping):
        return dict(inputs)
    return (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)


def placed(value: Any, device: torch.device | str) -> Any:
    """Return a structure with its tensors on a device; the very same tensors where they are there already."""
    return mapped(lambda tensor: tensor.to(device), value)


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
