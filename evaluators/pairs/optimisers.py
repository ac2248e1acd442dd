"""Steps of an optimiser whose state is plain tensors by parameter name, so that halves of a pair can take
theirs along.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

PairOptimiserName = Literal["adam", "adamw", "sgd"]
PAIR_OPTIMISERS: tuple[PairOptimiserName, ...] = ("adam", "adamw", "sgd")
EPSILON = 1e-8
_RISE = 0.2
Moments = dict[str, Tensor]
"""``<parameter>/<name>`` (``encoder.0.weight/exp_avg``, ``.../exp_avg_sq``, ``.../step``) -> tensor."""


class Stepping(ABC):
    """Moves parameters along their gradients."""

    @abstractmethod
    def __call__(self, scale: float = 1.0) -> None:
        """Take one step, at this multiple of the learning rate; parameters without a gradient stay."""

    def moments(self) -> Moments:
        """Return what the next training needs to go on from here."""
        return {}


class FreshAdam(Stepping):
    """The first step of Adam, over and over: lr g / (|g| + 1e-8). Bias correction makes the moments g and
    g^2, whatever the betas. [P]

    Args:
        weight_decay: added to the gradient, times the parameter, as Adam does.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], learning_rate: float, weight_decay: float = 0.0
    ) -> None:
        self._parameters, self._rate, self._decay = list(parameters.values()), learning_rate, weight_decay

    def __call__(self, scale: float = 1.0) -> None:
        with torch.no_grad():
            moved: list[Tensor] = [p for p in self._parameters if p.grad is not None]
            gradients: list[Tensor] = [p.grad for p in moved if p.grad is not None]
            if self._decay:
                gradients = list(torch._foreach_add(gradients, moved, alpha=self._decay))
            sizes = torch._foreach_abs(gradients)
            torch._foreach_add_(sizes, EPSILON)
            torch._foreach_addcdiv_(moved, gradients, sizes, value=-self._rate * scale)


class Travelling(Stepping):
    """Adam, AdamW or SGD of torch that starts from moments and gives them back.

    Args:
        moments: of an earlier training; they are copied, and those of a parameter that has none start afresh.
        alive: entries that may move, as factors 0 and 1 by parameter name: the moments of the others become
            0.
    """

    def __init__(
        self,
        name: PairOptimiserName,
        parameters: Mapping[str, nn.Parameter],
        learning_rate: float,
        betas: tuple[float, float],
        weight_decay: float,
        moments: Mapping[str, Tensor],
        alive: Mapping[str, Tensor],
    ) -> None:
        self._names = {parameter: name for name, parameter in parameters.items()}
        self._rate = learning_rate
        self._optimiser = _optimiser(name, list(parameters.values()), learning_rate, betas, weight_decay)
        for key, moment in moments.items():
            path, _, kind = key.rpartition("/")
            if path in parameters:
                moment = moment.detach().to(parameters[path].device, copy=True)
                if path in alive and moment.ndim:
                    moment.mul_(alive[path])
                self._optimiser.state[parameters[path]][kind] = moment

    def __call__(self, scale: float = 1.0) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate * scale
        self._optimiser.step()

    def moments(self) -> Moments:
        return {
            f"{name}/{kind}": value
            for parameter, name in self._names.items()
            for kind, value in self._optimiser.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }


def one_cycle(done: float) -> float:
    """Return the multiple of the learning rate at this share of a training: up over a fifth of it, down to
    zero by a cosine.
    """
    return done / _RISE if done < _RISE else (1 + math.cos(math.pi * (done - _RISE) / (1 - _RISE))) / 2


class TailAverage:
    """The mean of the last iterates of a training: near what a falling learning rate ends with (Polyak and
    Juditsky 1992 [P]).

    Args:
        parameters: in place.
        steps: of the training.
        share: of them that count, the last ones; 0: the last iterate alone.
    """

    def __init__(self, parameters: Sequence[Tensor], steps: int, share: float) -> None:
        self._parameters, self._first, self._done = list(parameters), steps - round(share * steps), 0
        self._mean: list[Tensor] = []

    def __call__(self) -> None:
        """Take in an iterate."""
        self._done += 1
        with torch.no_grad():
            if self._done > self._first + 1:
                torch._foreach_lerp_(self._mean, self._parameters, 1 / (self._done - self._first))
            elif self._done == self._first + 1:
                self._mean = [parameter.detach().clone() for parameter in self._parameters]

    def settle(self) -> None:
        """Put the mean in the place of the last iterate."""
        with torch.no_grad():
            for parameter, mean in zip(self._parameters, self._mean, strict=False):
                parameter.copy_(mean)


def _optimiser(
    name: PairOptimiserName,
    parameters: list[nn.Parameter],
    learning_rate: float,
    betas: tuple[float, float],
    weight_decay: float,
) -> torch.optim.Optimizer:
    if name == "sgd":
        nesterov = betas[0] > 0
        return torch.optim.SGD(
            parameters, learning_rate, betas[0], weight_decay=weight_decay, nesterov=nesterov, fused=True
        )
    kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    return kind(parameters, learning_rate, betas, EPSILON, weight_decay, fused=True)
