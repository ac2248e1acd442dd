"""The weights that act: those a layer computes of masks, norms and parametrisations, and those of layers side
by side, such as low-rank additions (LoRA). [O]
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd

from spaces.channels.plan import AxisSlice, Role, SlicePlan
from spaces.channels.slicing import cloned
from spaces.channels.trace import tensors_by_name

_LAYERS = (nn.Linear, nn.Embedding, _ConvNd)
_LINEAR = (
    *_LAYERS,
    _DropoutNd,
    nn.Identity,
    nn.ModuleDict,
    nn.ModuleList,
    nn.ParameterDict,
    nn.ParameterList,
)
MOST_LAYERS, MOST_VALUES = 16, 1 << 26
"""A module of more layers is not taken for one; one whose test inputs would hold more values is not tried."""

Weights = dict[str, Tensor]


def acting_weights(model: nn.Module, plan: SlicePlan) -> tuple[list[AxisSlice], Weights]:
    """Return the axes of a plan that weights have, and the weights by name.

    These are the model's parameters. Where a layer computes its weight of others (``torch.nn.utils.prune``,
    weight and spectral norm, ``torch.nn.utils.parametrize``) it is what is computed in eval mode; and of a
    user's module that is linear in what it gets, such as a sum of a layer and a low-rank one, it is the
    weight of the whole. The model is not changed.
    """
    weights: Weights = dict(model.named_parameters(remove_duplicate=False))
    axes = [axis for axis in plan.axes if axis.tensor in weights]
    computed = [
        path
        for path, module in model.named_modules()
        if isinstance(module, _LAYERS) and "weight" not in module._parameters
    ]
    wholes = [*_wholes(model, plan)]
    if computed or wholes:
        copy = cloned(model).cpu().eval()
        with torch.no_grad():
            for path in computed:
                axes = _computed(copy.get_submodule(path), path, model, plan, axes, weights)
            for path, loci in wholes:
                axes = _whole(copy.get_submodule(path), path, loci, axes, weights)
    return axes, weights


def _computed(
    layer: nn.Module, path: str, model: nn.Module, plan: SlicePlan, axes: list[AxisSlice], weights: Weights
) -> list[AxisSlice]:
    """Put the weight that a layer computes in the place of what it is computed of."""
    for key, hook in layer._forward_pre_hooks.items():
        if key not in layer._forward_pre_hooks_with_kwargs:
            hook(layer, ())  # where it is computed, unless the class does it
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor):
        return axes
    name, shapes = _join(path, "weight"), {k: t.shape for k, t in tensors_by_name(model).items()}
    out = 1 if isinstance(layer, _ConvTransposeNd | nn.Embedding) else 0
    own = [axis for axis in plan.axes if _owner(axis.tensor) == path]
    found: dict[tuple[int, bytes], AxisSlice] = {}
    for axis in own:
        if shapes[axis.tensor] == weight.shape:
            role: Role = "out" if axis.dim == out else "in"
            found.setdefault((axis.dim, axis.loci.tobytes()), AxisSlice(name, axis.dim, axis.loci, role))
    if not any(axis.role == "out" for axis in found.values()):
        # of factors none has the weight's shape; the bias has its outputs
        of_bias = [a for a in own if _is_bias(a.tensor, path) and len(a.loci) == weight.shape[out]]
        others = [a for a in own if a.role == "out" and a.dim == out and len(a.loci) == weight.shape[out]]
        for axis in (of_bias or others)[:1]:
            found[out, b""] = AxisSlice(name, out, axis.loci, "out")
    if not found:
        return axes
    weights[name] = weight.detach().nan_to_num(0.0)  # a direction of zeros has no length
    return [a for a in axes if _owner(a.tensor) != path or _is_bias(a.tensor, path)] + [*found.values()]


def _wholes(model: nn.Module, plan: SlicePlan) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the modules that may act as one layer, with the loci of what they give: users' own that hold
    several weights with the same outputs, or compute with a weight in a way of their own.
    """
    tensors, modules = tensors_by_name(model), dict(model.named_modules())
    alike: dict[bytes, list[AxisSlice]] = defaultdict(list)
    for axis in plan.axes:
        if axis.role != "in" and tensors[axis.tensor].ndim > 1:
            alike[axis.loci.tobytes()].append(axis)
    for axes in alike.values():
        owners = dict.fromkeys(_owner(axis.tensor) for axis in axes)
        found: dict[str, None] = {}
        for owner in owners if any(axis.role == "out" for axis in axes) else ():
            path = owner
            while path:
                several = any(other != owner and _is_within(other, path) for other in owners)
                if (several or path == owner) and _may_be_linear(modules[path]):
                    found[path] = None
                    break
                if several and not isinstance(modules[path], nn.ModuleDict | nn.ModuleList):
                    break
                path = path.rpartition(".")[0]
        yield from ((path, axes[0].loci) for path in found)


def _may_be_linear(module: nn.Module) -> bool:
    """Whether a module has a ``forward`` of the user's own and no layer that is known not to be linear."""
    is_own = "forward" in vars(module) or not type(module).forward.__module__.startswith("torch.nn.")
    parts = [part for part in module.modules() if part is not module]
    return (
        is_own
        and len(parts) <= MOST_LAYERS
        and not any(isinstance(part, _ConvTransposeNd) for part in module.modules())
        and all(
            isinstance(p, _LINEAR) or not type(p).__module__.startswith("torch.nn.modules") for p in parts
        )
    )


def _whole(
    module: nn.Module, path: str, loci: np.ndarray, axes: list[AxisSlice], weights: Weights
) -> list[AxisSlice]:
    """Put the weight of a whole module in the place of those of its layers, if it is linear."""
    replaced = [
        axis
        for axis in axes
        if axis.role != "in" and _is_within(_owner(axis.tensor), path) and np.array_equal(axis.loci, loci)
    ]
    weight = _response(module, len(loci))
    if weight is None or not replaced:
        return axes
    if len(replaced) == 1:
        before = weights[replaced[0].tensor].detach().double().movedim(replaced[0].dim, 0).flatten(1)
        if torch.allclose(before.norm(dim=1), weight.norm(dim=1), rtol=1e-5):
            return axes  # it computes with its weight as it is
    name = f"{path} as a whole"
    weights[name] = weight
    return [axis for axis in axes if axis not in replaced] + [AxisSlice(name, 0, loci, "out")]


def _response(module: nn.Module, size: int) -> Tensor | None:
    """Return what every output of a module takes of every input, float64 ``(size, ...)``, or None where it is
    not linear (up to what it adds) or does not take such inputs.
    """
    module.double()
    convolutions = [part for part in module.modules() if isinstance(part, _ConvNd)]
    inputs = {part.in_channels for part in convolutions}
    if not inputs:
        inputs = {n for t in (*module.parameters(), *module.buffers()) if t.ndim == 2 for n in t.shape}
    for count in sorted(inputs, reverse=True):
        try:
            return _impulses(module, size, count, *_grid(convolutions))
        except Exception:  # it takes other inputs
            continue
    return None


def _impulses(
    module: nn.Module, size: int, count: int, grid: Sequence[int], starts: Sequence[tuple[int, ...]]
) -> Tensor:
    def run(x: Tensor) -> Tensor:
        y = module(x)
        if y.ndim != x.ndim or y.shape[:2] != (len(x), size):
            raise ValueError("not the outputs of a layer")
        return y.reshape(len(y), size, -1)

    if count * count * math.prod(grid) > MOST_VALUES:
        raise ValueError("too large")
    a, b = torch.randn(2, count, *grid, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    zero, one, two, both = run(torch.stack([torch.zeros_like(a), a, b, a - 2 * b]))
    if not torch.allclose(both - zero, (one - zero) - 2 * (two - zero), rtol=1e-6, atol=1e-6):
        raise ValueError("not linear")
    found = []
    for start in starts:
        x = torch.zeros(count, count, *grid, dtype=torch.float64)
        place: Any = (..., *start)
        x[place] = torch.eye(count, dtype=torch.float64)
        found.append(run(x) - zero)
    return torch.cat(found).movedim(1, 0).flatten(1).nan_to_num(0.0)


def _grid(convolutions: Sequence[_ConvNd]) -> tuple[list[int], list[tuple[int, ...]]]:
    """Return the smallest inputs on which no border is felt, and places of impulses that meet every entry of
    the kernels once. Linear layers have no grid.
    """
    grid, places = [], []
    for dim in range(len(convolutions[0].kernel_size) if convolutions else 0):
        reach = sum(part.dilation[dim] * (part.kernel_size[dim] - 1) for part in convolutions)
        stride = max(part.stride[dim] for part in convolutions)
        grid.append(2 * reach + stride)
        places.append(range(reach, reach + stride))
    return grid, [*product(*places)]


def _owner(tensor: str) -> str:
    """Return the path of the layer whose weight or bias a tensor is, or is computed of."""
    head, mark, _ = f".{tensor}".partition(".parametrizations.")
    return head[1:] if mark else tensor.rpartition(".")[0]


def _is_bias(tensor: str, path: str) -> bool:
    return tensor[len(path) :].lstrip(".").removeprefix("parametrizations.").startswith("bias")


def _is_within(path: str, other: str) -> bool:
    return f"{path}.".startswith(f"{other}.")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
