"""Units: the outputs of linear and convolutional layers, numbered and recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from spaces.calling import Example, Inputs, call, forward, mode
from spaces.structures import samples


class Units:
    """The units of a model: every output of every Linear and convolution that a forward call runs, in the
    order in which they run.

    Attributes:
        starts: layer name -> number of its first unit.
        layers: int64 of shape ``(units,)``: the number of each unit's layer.
    """

    def __init__(self, model: nn.Module, example: Example) -> None:
        order: dict[str, int] = {}

        def meet(name: str, layer: Any) -> None:
            order.setdefault(name, width(layer))

        handles = [
            layer.register_forward_hook(lambda layer, inputs, output, name=name: meet(name, layer))
            for name, layer in weighted_layers(model)
        ]
        try:
            with mode(model, False), torch.no_grad():
                call(model, example)
        finally:
            for handle in handles:
                handle.remove()
        self.sizes = order
        edges = np.cumsum([0, *order.values()])
        self.starts = {name: int(start) for name, start in zip(order, edges, strict=False)}
        self.layers = np.repeat(np.arange(len(order)), list(order.values()))

    def __len__(self) -> int:
        return len(self.layers)

    def record(self, model: nn.Module, batches: Iterable[tuple[Inputs, Any]]) -> np.ndarray:
        """Return what the units of a full model give, float32 of shape ``(examples, units)``, averaged over
        positions (and calls).

        Outputs are those of the layers themselves, before any nonlinearity, in eval mode. [P: the published
        code hooks the linear layers]

        Args:
            batches: ``(inputs, targets)`` as data yields them; targets are not looked at.
        """
        layers = dict(model.named_modules())
        rows: list[Tensor] = []
        seen: dict[str, list[Tensor]] = defaultdict(list)
        # outputs are copied as they come: an activation behind the layer may work in place
        handles = [
            layers[name].register_forward_hook(
                lambda layer, inputs, output, name=name: seen[name].append(_flat(layer, output))
            )
            for name in self.sizes
        ]
        try:
            with mode(model, False), torch.no_grad():
                for inputs, _ in batches:
                    seen.clear()
                    forward(model, inputs)
                    rows.append(
                        torch.cat(
                            [_mean(seen[name], samples(inputs), size) for name, size in self.sizes.items()],
                            dim=1,
                        )
                    )
        finally:
            for handle in handles:
                handle.remove()
        return torch.cat(rows).numpy() if rows else np.empty((0, len(self)), dtype=np.float32)


def weighted_layers(model: nn.Module) -> list[tuple[str, nn.Linear | _ConvNd]]:
    """Return every Linear and convolution with its name, once, in the order in which they are registered."""
    return [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear | _ConvNd)]


def width(layer: nn.Linear | _ConvNd) -> int:
    """Return the number of a layer's units."""
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def rows_of(layer: nn.Linear | _ConvNd, tensor: Tensor) -> np.ndarray:
    """Return which unit of its layer each entry of a weight or bias goes into, int64 of shape ``(entries,)``,
    in C order.
    """
    if isinstance(layer, _ConvTransposeNd) and tensor.ndim > 1:  # (inputs, outputs a group, ...)
        per_group = tensor.shape[1]
        group = np.arange(tensor.shape[0]) // (tensor.shape[0] // layer.groups)
        units = group[:, None] * per_group + np.arange(per_group)
    else:
        units = np.arange(tensor.shape[0])
    return np.repeat(units.ravel(), tensor.numel() // units.size)


def _flat(layer: nn.Module, output: Tensor) -> Tensor:
    """Return outputs with units last: ``(batch, positions, units)`` or, where batch and positions are mixed,
    ``(rows, units)``.
    """
    if isinstance(layer, _ConvNd):
        return output.detach().flatten(2).mean(2)
    return output.detach().to(torch.float32, copy=True)


def _mean(outputs: Sequence[Tensor], examples: int, units: int) -> Tensor:
    """Return the mean over calls and positions, ``(examples, units)``; NaN where a layer did not run or mixes
    its examples.
    """
    if not outputs or any(x.numel() % (examples * units) for x in outputs):
        return torch.full((examples, units), float("nan"))
    return torch.stack([x.reshape(examples, -1, units).mean(1).float() for x in outputs]).mean(0).cpu()
