"""The second-order gradient of the architecture: of the loss after one more step of the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Loss = Callable[[], Tensor]


def unrolled_gradients(
    weights: Sequence[nn.Parameter],
    alphas: Sequence[nn.Parameter],
    train: Loss,
    held_out: Loss,
    rate: float,
    decay: float = 0.0,
    momenta: Sequence[Tensor | None] | None = None,
    momentum: float = 0.0,
    spread: float = 0.01,
) -> list[Tensor]:
    """Return the gradient of ``held_out`` with respect to the alphas, at the weights after a step of SGD on
    ``train``.

    The product with the mixed second derivative is a finite difference of two gradients. Source: DARTS,
    equations 6 to 8 (Liu et al. 2019) [P]. Weights are as before when it returns.

    Args:
        train, held_out: compute a loss with the weights as they are.
        rate, decay, momenta, momentum: of the step.
        spread: the finite difference moves the weights by `spread` over the norm of the direction. [P]
    """
    before = [weight.detach().clone() for weight in weights]
    steps = [g + decay * w for g, w in zip(_gradients(train(), weights), before, strict=True)]
    if momenta is not None:
        steps = [
            step if old is None else step + momentum * old for step, old in zip(steps, momenta, strict=True)
        ]
    _put(weights, [w - rate * step for w, step in zip(before, steps, strict=True)])
    found = _gradients(held_out(), [*alphas, *weights])
    direct, direction = found[: len(alphas)], found[len(alphas) :]
    size = spread / max(float(torch.sqrt(sum((d.square().sum() for d in direction), torch.zeros(())))), 1e-12)
    sides = []
    for sign in (1, -1):
        _put(weights, [w + sign * size * d for w, d in zip(before, direction, strict=True)])
        sides.append(_gradients(train(), alphas))
    _put(weights, before)
    return [d - rate * (up - down) / (2 * size) for d, up, down in zip(direct, *sides, strict=True)]


def _gradients(loss: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    found = torch.autograd.grad(loss, list(parameters), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]


def _put(parameters: Sequence[nn.Parameter], values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)
