"""Small changes of a pair's tensors, and of its optimiser's moments."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from evaluators.pairs.state import Tensors


def zero(pair: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set to 0 what is not alive."""
    with torch.no_grad():
        tensors = dict(pair.named_parameters()) | dict(pair.named_buffers())
        for name, mask in masks.items():
            tensors[name].mul_(mask)


def of_half(moments: Tensors, side: str) -> dict[str, Tensor]:
    """Return the moments of an encoder or a decoder."""
    return {name: tensor for name, tensor in moments.items() if name.startswith(f"{side}.")}


def each_moment(
    moments: Tensors, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Change an optimiser's moments, ``<parameter>/<name>``, as tensors by the parameters' names: one name
    after the other.
    """
    changed: dict[str, Tensor] = {}
    for kind in dict.fromkeys(name.rpartition("/")[2] for name in moments):
        part = {
            name.rpartition("/")[0]: tensor for name, tensor in moments.items() if name.endswith(f"/{kind}")
        }
        changed |= {f"{name}/{kind}": tensor for name, tensor in change(part).items()}
    return changed


def empty_like(moment: Tensor, zeros: Tensor) -> Tensor:
    """What a moment is scattered into: zeros of the parameter's shape, or a number for one."""
    return zeros.to(moment.dtype) if moment.ndim else torch.zeros_like(moment)


def is_finite(pair: nn.Module) -> bool:
    """Whether all parameters are."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in pair.parameters())


def reset(pair: nn.Module) -> None:
    """Draw fresh weights from torch's generator, module by module."""
    for module in pair.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
