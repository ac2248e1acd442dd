"""Network morphisms of one layer: it goes on from a smaller one, or changes nothing, and the network computes
what it did. In place.

Sources: new units that their readers do not see yet: Elsken et al. 2017 (arXiv 1711.04528) [P]; a new layer
that is the identity: Chen, Goodfellow and Shlens 2016 (Net2Net, arXiv 1511.05641) [P]; larger kernels, with a
border of zeros: Wei et al. 2016 (arXiv 1603.01670) [P]; a residual branch that begins silent: Goyal et al.
2017 (arXiv 1706.02677) [P].

None of them knows the graph around a layer, so what computes the same in most networks need not do so in all:
run it and compare.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

_READERS = (nn.Linear, _ConvNd, nn.RNNBase, nn.MultiheadAttention)


def own_tensors(layer: nn.Module) -> dict[str, Tensor]:
    """Return a module's own parameters and persistent buffers by name, without its children's; writing to
    them changes it.
    """
    return {
        name: value
        for name, value in layer.state_dict().items()
        if "." not in name and isinstance(value, Tensor)
    }


def fits(layer: nn.Module, narrow: nn.Module) -> bool:
    """Return whether a layer may go on from another: one of its kind, with the same tensors, none of them
    larger on any axis.
    """
    own, given = own_tensors(layer), own_tensors(narrow)
    return (
        type(layer) is type(narrow)
        and own.keys() == given.keys()
        and all(
            len(t.shape) == len(given[n].shape) and all(map(int.__ge__, t.shape, given[n].shape))
            for n, t in own.items()
        )
    )


def widen(layer: nn.Module, narrow: nn.Module) -> None:
    """Give a layer the tensors of a narrower one that it :func:`fits`: its old units compute what they did,
    whatever new ones say.

    New units come last and stay as they were built. Old units have zeros for the inputs that are new, and
    around their old kernel. So new units change nothing at first, and the zeros get their gradients at once.
    A layer that reads channels flattened fits as well: old channels come first, each with all of its
    positions. Gates of recurrent layers and the three projections of attention are widened each on its own.
    """
    for name, tensor in own_tensors(layer).items():
        new, old = _by_unit(layer, name, tensor), _by_unit(narrow, name, own_tensors(narrow)[name])
        reads = isinstance(layer, _READERS) and new.ndim > 1
        if reads:
            new[: old.shape[0]] = 0
        border = [
            (n - o) // 2 if reads and axis > 1 else 0
            for axis, (n, o) in enumerate(zip(new.shape, old.shape, strict=True))
        ]
        new[tuple(slice(first, first + size) for first, size in zip(border, old.shape, strict=True))] = (
            old.to(new)
        )


def _by_unit(layer: nn.Module, name: str, tensor: Tensor) -> Tensor:
    """Return a view whose first axis are the layer's units and whose second are its inputs."""
    gates = 1
    if isinstance(layer, nn.RNNBase):
        gates = {"LSTM": 4, "GRU": 3}.get(layer.mode, 1)
    elif isinstance(layer, nn.MultiheadAttention) and name.startswith("in_proj"):
        gates = 3
    if gates > 1:
        return tensor.unflatten(0, (gates, -1)).movedim(0, -1)
    return tensor.transpose(0, 1) if isinstance(layer, _ConvTransposeNd) and tensor.ndim > 1 else tensor


def make_identity(layer: nn.Module) -> bool:
    """Make a layer the identity, and return whether it can be: Linear, Conv with odd kernels, as many units
    as inputs; BatchNorm.

    A convolution needs stride 1 and padding that keeps the size as well. BatchNorm is it in eval mode;
    :func:`follow` sees to training.
    """
    if isinstance(layer, _BatchNorm):
        if not layer.affine or layer.running_mean is None or layer.running_var is None:
            return False
        with torch.no_grad():
            layer.weight.copy_((layer.running_var + layer.eps).sqrt())
            layer.bias.copy_(layer.running_mean)
        return True
    if isinstance(layer, nn.Linear) and layer.in_features == layer.out_features:
        nn.init.eye_(layer.weight)
    elif (
        isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        and layer.in_channels == layer.out_channels
        and all(size % 2 for size in layer.kernel_size)
    ):
        nn.init.dirac_(layer.weight, layer.groups)
    else:
        return False
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return True


def follow(norm: Any, inputs: tuple[Tensor, ...]) -> None:
    """Give a BatchNorm that is the identity the statistics of its inputs ``(batch, channels, ...)``, and
    weight and bias that undo them.

    A forward pre-hook. So it is close to the identity in training as well, and when its statistics are taken
    anew. [P, Net2Net]
    """
    variance, mean = torch.var_mean(
        inputs[0], [axis for axis in range(inputs[0].ndim) if axis != 1], correction=0
    )
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    make_identity(norm)


def silence(layers: list[nn.Module]) -> bool:
    """Make the last of a branch's layers give zeros, the others as they were built; return whether there is
    one that can.

    It is the last Linear or Conv, or the BatchNorm or GroupNorm that stands right behind it.
    """
    last = max(
        (place for place, layer in enumerate(layers) if isinstance(layer, nn.Linear | _ConvNd)), default=None
    )
    if last is None:
        return False
    norm: Any = layers[last + 1] if last + 1 < len(layers) else None
    speaker: Any = norm if isinstance(norm, _BatchNorm | nn.GroupNorm) and norm.affine else layers[last]
    for parameter in speaker.parameters(recurse=False):
        nn.init.zeros_(parameter)
    return True
