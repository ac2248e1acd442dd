"""How one call of a layer makes the per-sample gradients of its parameters, of its inputs and the gradients
of its outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class Use(ABC):
    """One call of one layer, on `m` samples.

    Attributes:
        parameters: name in the layer -> the parameter, those that learn.
    """

    def __init__(self, layer: nn.Module, inputs: Tensor) -> None:
        # the inputs are used without gradients: detaching every one would cost as much as a product
        self.layer, self.inputs = layer, inputs
        self.parameters = own_parameters(layer)

    @abstractmethod
    def rows(self, name: str, gradients: Tensor, low: int, high: int) -> Tensor:
        """Return per-sample gradients ``(passes, m, high - low, ...)`` of rows `low` to `high` of a
        parameter.

        Args:
            gradients: of the losses by this layer's outputs, ``(passes, m, ...)`` with the outputs' shape.
        """


class LinearUse(Use):
    """``y = A W^T + b`` on ``(m, ..., features)``."""

    def rows(self, name: str, gradients: Tensor, low: int, high: int) -> Tensor:
        flat = gradients.reshape(*gradients.shape[:2], -1, gradients.shape[-1])[..., low:high]
        inputs = self.inputs.reshape(len(self.inputs), -1, self.inputs.shape[-1])  # (m, positions, features)
        return flat.sum(2) if name == "bias" else flat.transpose(2, 3) @ inputs


class ConvUse(Use):
    """Convolution in one or two dimensions: a linear layer on patches."""

    def rows(self, name: str, gradients: Tensor, low: int, high: int) -> Tensor:
        if name == "bias":
            return gradients[:, :, low:high].flatten(3).sum(3)
        layer: Any = self.layer
        groups = layer.groups
        patches = self._patches().reshape(gradients.shape[1], groups, layer.weight[0].numel(), -1)
        if groups == 1:
            return gradients[:, :, low:high].flatten(3) @ patches[:, 0].transpose(1, 2)
        flat = gradients.reshape(*gradients.shape[:2], groups, layer.out_channels // groups, -1)
        return (flat @ patches.transpose(2, 3)).flatten(2, 3)[:, :, low:high]

    def _patches(self) -> Tensor:
        layer: Any = self.layer
        inputs, pad = self.inputs, layer._reversed_padding_repeated_twice
        kernel, dilation, stride = layer.kernel_size, layer.dilation, layer.stride
        if any(pad):
            inputs = F.pad(
                inputs, pad, mode="constant" if layer.padding_mode == "zeros" else layer.padding_mode
            )
        if inputs.ndim == 3:
            inputs, kernel, dilation, stride = inputs.unsqueeze(2), (1, *kernel), (1, *dilation), (1, *stride)
        return F.unfold(inputs, kernel, dilation, 0, stride)


class EmbeddingUse(Use):
    """Rows of a table, looked up by ``(m, ...)`` indices."""

    def rows(self, name: str, gradients: Tensor, low: int, high: int) -> Tensor:
        layer: Any = self.layer
        indices, flat = (
            self.inputs.flatten(1),
            gradients.reshape(*gradients.shape[:2], -1, gradients.shape[-1]),
        )
        counted = (indices >= low) & (indices < high)
        if layer.padding_idx is not None:
            counted = counted & (indices != layer.padding_idx)
        rows = flat.new_zeros(*flat.shape[:2], high - low, flat.shape[-1])
        places = (indices - low).clamp(0, high - low - 1).unsqueeze(-1).expand_as(flat)
        return rows.scatter_add_(2, places, flat * counted.unsqueeze(-1))


class NormUse(Use):
    """A normalisation's affine part on what `normalised` makes of the inputs; channels in dimension 1, or
    last for LayerNorm.
    """

    def __init__(
        self,
        layer: nn.Module,
        inputs: Tensor,
        normalised: Callable[[Any, Tensor], Tensor],
        last: bool = False,
    ) -> None:
        super().__init__(layer, inputs)
        self._normalised, self._last = normalised, last

    def rows(self, name: str, gradients: Tensor, low: int, high: int) -> Tensor:
        whole = gradients if name == "bias" else gradients * self._normalised(self.layer, self.inputs)
        if self._last:
            trailing = self.parameters[name].ndim
            whole = whole.reshape(*whole.shape[:2], -1, *whole.shape[whole.ndim - trailing :]).sum(2)
        elif whole.ndim > 3:
            whole = whole.flatten(3).sum(3)
        return whole[:, :, low:high]


def _batch_normalised(layer: Any, inputs: Tensor) -> Tensor:
    return F.batch_norm(inputs, layer.running_mean, layer.running_var, eps=layer.eps)


def _layer_normalised(layer: Any, inputs: Tensor) -> Tensor:
    return F.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)


def _group_normalised(layer: Any, inputs: Tensor) -> Tensor:
    return F.group_norm(inputs, layer.num_groups, eps=layer.eps)


def _batch_norm(layer: nn.Module, inputs: Tensor) -> Use:
    return NormUse(layer, inputs, _batch_normalised)


def _layer_norm(layer: nn.Module, inputs: Tensor) -> Use:
    return NormUse(layer, inputs, _layer_normalised, last=True)


def _group_norm(layer: nn.Module, inputs: Tensor) -> Use:
    return NormUse(layer, inputs, _group_normalised)


USES: dict[type[nn.Module], Callable[[nn.Module, Tensor], Use]] = {
    nn.Linear: LinearUse,
    nn.Conv1d: ConvUse,
    nn.Conv2d: ConvUse,
    nn.Embedding: EmbeddingUse,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.BatchNorm3d: _batch_norm,
    nn.LayerNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
}
"""Layers whose per-sample gradients follow from inputs and output gradients; these types alone, as a subclass
may compute otherwise.
"""


def is_covered(layer: nn.Module) -> bool:
    """Whether a layer's own learning parameters can be had from its hooks."""
    if type(layer) is nn.Embedding:
        return layer.max_norm is None and not layer.scale_grad_by_freq and not layer.sparse
    return type(layer) in USES


def use_of(layer: nn.Module, inputs: Tensor) -> Use:
    """Describe one call of a covered layer."""
    return USES[type(layer)](layer, inputs)


def own_parameters(layer: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of a layer's own that learn, by name."""
    # named_parameters takes ten times as long
    return {name: p for name, p in layer._parameters.items() if p is not None and p.requires_grad}
