"""Network morphisms: a layer made wider, or one more layer, and the same outputs. Pure functions; nothing that is given is changed.

Source: Net2Net (Chen, Goodfellow and Shlens 2016, arXiv 1511.05641) [P].
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from spaces.errors import InputError

Layer = nn.Linear | _ConvNd
Kind = TypeVar("Kind", bound=nn.Module)
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_IDEMPOTENT = (nn.ReLU, nn.ReLU6, nn.Identity, nn.Hardtanh)


def widen(
    producer: Layer, consumer: Layer, units: Sequence[int], norm: _BatchNorm | None = None, generator: torch.Generator | None = None
) -> tuple[Any, Any, Any]:
    """Duplicate units of a layer; the layer that reads them takes each of n copies with its share of the weight, so outputs stay.

    Between the two there may be `norm` and whatever treats every unit alone and alike: activations, pooling, flattening.

    Args:
        producer: Linear or Conv (one group) whose output units are duplicated.
        consumer: Linear or Conv (one group) that reads them, and nothing else does; a Linear may read them flattened.
        units: which ones, one new unit each, placed behind the others in this order; a unit may be named several times.
        norm: BatchNorm over the producer's units.
        generator: draws the copies' shares at random (they add up to 1); None: equal shares, with which copies of a unit are
            trained alike and stay copies.

    Returns:
        The wider producer, consumer and norm (None where none was given), which share no storage with those that were given.

    Raises:
        InputError: layers of another kind, with groups, or that do not fit; a unit that is not there.
    """
    for place, layer in (("producer", producer), ("consumer", consumer)):
        if not isinstance(layer, _LAYERS) or getattr(layer, "groups", 1) != 1:
            raise InputError(f"widen: {place} {type(layer).__name__} is not accepted; expected Linear or Conv of one group")
    width, read = producer.weight.shape[0], consumer.weight.shape[1]
    if read % width or (read != width and not isinstance(consumer, nn.Linear)):
        raise InputError(f"widen: consumer reads {read} features of {width} units; expected {width}, or with Linear a multiple")
    if norm is not None and norm.num_features != width:
        raise InputError(f"widen: norm of {norm.num_features} features; expected {width}")
    if any(not 0 <= unit < width for unit in units):
        raise InputError(f"widen: units {list(units)}; expected numbers from 0 to {width - 1}")
    source = torch.tensor([*range(width), *units], dtype=torch.long)
    with torch.no_grad():
        wider = _with(producer, {name: tensor[source] for name, tensor in producer.named_parameters()}, _OUT)
        share = _shares(source, width, generator).to(consumer.weight)
        each = read // width
        columns = (source[:, None] * each + torch.arange(each)).flatten()
        scale = share.repeat_interleave(each).reshape(1, -1, *[1] * (consumer.weight.ndim - 2))
        reader = _with(consumer, {"weight": consumer.weight[:, columns] * scale}, _IN)
        tensors = {} if norm is None else {**dict(norm.named_parameters()), **dict(norm.named_buffers())}
        wide_norm = None if norm is None else _with(norm, {n: t[source] if t.ndim else t.clone() for n, t in tensors.items()}, _NORM)
    return wider, reader, wide_norm


def deepen(width: int, activation: nn.Module, kernel: int | Sequence[int] | None = None) -> nn.Sequential:
    """Return one more layer that changes nothing where it stands behind this activation: the identity, and the activation again.

    Args:
        width: units, or channels, that it reads and gives.
        activation: that stands before it; one that changes nothing the second time (ReLU, ReLU6, Hardtanh, Identity).
        kernel: of a convolution, odd: one number for images, or one for each of 1 to 3 dimensions; None: a Linear layer.

    Raises:
        InputError: another activation, or an even kernel.
    """
    if not isinstance(activation, _IDEMPOTENT):
        accepted = ", ".join(kind.__name__ for kind in _IDEMPOTENT)
        raise InputError(f"deepen: activation {type(activation).__name__} changes values again; expected {accepted}")
    if kernel is None:
        layer: nn.Module = nn.Linear(width, width)
        nn.init.eye_(layer.weight)  # type: ignore[arg-type]
    else:
        sizes = (kernel, kernel) if isinstance(kernel, int) else tuple(kernel)
        if not 1 <= len(sizes) <= 3 or any(size < 1 or size % 2 == 0 for size in sizes):
            raise InputError(f"deepen: kernel {kernel}; expected odd numbers, of 1 to 3 dimensions")
        layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(sizes) - 1](width, width, sizes, padding="same")  # type: ignore[arg-type]
        nn.init.dirac_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return nn.Sequential(layer, copy.deepcopy(activation))


_OUT = ("out_features", "out_channels")
_IN = ("in_features", "in_channels")
_NORM = ("num_features",)


def _with(module: Kind, tensors: dict[str, Tensor], sizes: Sequence[str]) -> Kind:
    """Return a copy with other tensors, its size told by the first axis of a norm or an output, the second of an input."""
    made = copy.deepcopy(module)
    for name, tensor in tensors.items():
        old = getattr(module, name)
        setattr(made, name, nn.Parameter(tensor, old.requires_grad) if isinstance(old, nn.Parameter) else tensor)
    weight = tensors.get("weight", tensors.get("running_mean"))
    for size in sizes:
        if hasattr(made, size) and weight is not None:
            setattr(made, size, weight.shape[1 if sizes is _IN else 0])
    return made


def _shares(source: Tensor, width: int, generator: torch.Generator | None) -> Tensor:
    """Return the share of every copy, of those of its unit together 1."""
    drawn = torch.ones(len(source)) if generator is None else torch.rand(len(source), generator=generator) + 0.5
    return drawn / torch.zeros(width).index_add_(0, source, drawn)[source]
