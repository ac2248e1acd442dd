"""Perturbation: other parameters for a copy of a model, so that it shows which ones it computes with."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spaces.channels.trace import tensors_by_name


@dataclass(frozen=True)
class Perturbation:
    """How much parameters are changed: by noise of a share of their root mean square, or of `least`.

    Buffers are changed by their share alone, so that variances stay positive.
    """

    share: float
    least: float


PERTURBATIONS = Perturbation(0.25, 0.02), Perturbation(0.02, 0.0)
"""The usual one, and one for models whose outputs are not finite with it (roots of parameters)."""
_PERIOD = 1 << 16


def perturb(model: nn.Module, by: Perturbation, names: Collection[str] | None = None) -> None:
    """Change the parameters and buffers of a model in place, the same way every time.

    Args:
        names: which of them; None: all that hold floats.
    """
    noise = torch.randn(_PERIOD, generator=torch.Generator().manual_seed(0))
    parameters = {id(parameter) for parameter in model.parameters()}
    done: set[int] = set()
    with torch.no_grad():
        for name, tensor in tensors_by_name(model).items():
            if (names is None or name in names) and tensor.is_floating_point() and id(tensor) not in done:
                done.add(id(tensor))
                if id(tensor) in parameters:
                    scale = max(float(tensor.float().square().mean().sqrt()), by.least)
                    for part, own in _parts(tensor, noise):
                        part += own * (by.share * scale)
                else:
                    for part, own in _parts(tensor, noise):
                        part *= 1 + own.clamp(-2, 2) * (by.share / 4)


def _parts(tensor: Tensor, noise: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield parts of a tensor with noise of their shapes, which begins anew where the tensor is longer."""
    if not tensor.is_contiguous():
        count = tensor.numel()
        drawn = noise.repeat(-(-count // len(noise)))[:count]
        yield tensor, drawn.reshape(tensor.shape).to(tensor)
        return
    places = tensor.view(-1)
    whole = len(places) - len(places) % len(noise)
    yield places[:whole].view(-1, len(noise)), noise.to(tensor)
    yield places[whole:], noise[: len(places) - whole].to(tensor)
