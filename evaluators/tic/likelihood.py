"""Losses as likelihoods: what a model believes of the labels, so that labels can be drawn from it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.errors import InputError


class Likelihood(ABC):
    """A loss of every sample that is, up to constants, `weight` times the negative logarithm of a density
    that can be drawn from.

    With labels drawn from the model, the mean of outer products of loss gradients is ``weight`` times the
    expected Hessian in the model's own sense, so gradients of drawn labels are divided by the root of
    `weight`. [O]
    """

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of every sample, shape ``(batch,)``."""

    @abstractmethod
    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return targets drawn from the model's own distribution, one for each sample."""

    def weight(self, outputs: Tensor) -> float:
        """Return the factor between the loss of one sample and its negative log-likelihood: 1 over what the
        loss averages.
        """
        return 1.0

    def slope(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the gradient of the sum of losses by the outputs, the outputs' shape."""
        with torch.enable_grad():
            leaf = outputs.detach().requires_grad_()
            return torch.autograd.grad(self.losses(leaf, targets).sum(), leaf)[0]

    def slopes(
        self, outputs: Tensor, targets: Tensor, generator: torch.Generator, passes: int
    ) -> list[Tensor]:
        """Return the slope at the targets, then those at `passes` draws of :meth:`sample`."""
        return [
            self.slope(outputs, found)
            for found in (targets, *(self.sample(outputs, generator) for _ in range(passes)))
        ]


class CrossEntropy(Likelihood):
    """Cross-entropy of logits ``(batch, classes, ...)`` and integer labels ``(batch, ...)``, averaged over a
    sample's positions.
    """

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        losses = F.cross_entropy(outputs, targets, reduction="none")
        return losses.flatten(1).mean(1) if losses.ndim > 1 else losses

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        return _draw(outputs.softmax(1), generator)

    def weight(self, outputs: Tensor) -> float:
        return 1.0 / max(1, math.prod(outputs.shape[2:]))

    def slope(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self._slope(outputs.softmax(1), targets)

    def slopes(
        self, outputs: Tensor, targets: Tensor, generator: torch.Generator, passes: int
    ) -> list[Tensor]:
        chances = outputs.softmax(1)
        drawn = [_draw(chances, generator) for _ in range(passes)]
        return [self._slope(chances.clone(), labels) for labels in (targets, *drawn)]

    def _slope(self, chances: Tensor, targets: Tensor) -> Tensor:
        """Make slopes of chances, in place."""
        labels, weight = targets.unsqueeze(1), self.weight(chances)
        chances.scatter_add_(1, labels, chances.new_full((), -1.0).expand_as(labels))
        return chances if weight == 1 else chances.mul_(weight)


def _draw(chances: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a label by chances ``(batch, classes, ...)``."""
    by_label = chances.movedim(1, -1)
    level = torch.rand((*by_label.shape[:-1], 1), generator=generator).to(chances)
    # the sum may end a little below 1
    return (by_label.cumsum(-1) < level).sum(-1).clamp_(max=by_label.shape[-1] - 1)


class SquaredError(Likelihood):
    """Squared error without the factor 1/2, averaged over the entries of a target: Gaussian noise of variance
    1/2.
    """

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        squares = (outputs - targets.reshape(outputs.shape)).square()
        return squares.flatten(1).mean(1) if squares.ndim > 1 else squares

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(outputs.shape, generator=generator, dtype=torch.float64).to(outputs)
        return outputs.detach() + noise * math.sqrt(0.5)

    def weight(self, outputs: Tensor) -> float:
        return 1.0 / max(1, math.prod(outputs.shape[1:]))

    def slope(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets.reshape(outputs.shape)) * (2 * self.weight(outputs))


LIKELIHOODS: dict[str, type[Likelihood]] = {"cross_entropy": CrossEntropy, "squared_error": SquaredError}
_FUNCTIONS: dict[Callable[..., Any], type[Likelihood]] = {
    F.cross_entropy: CrossEntropy,
    F.mse_loss: SquaredError,
}


def as_likelihood(loss: Likelihood | str | nn.Module | Callable[..., Any]) -> Likelihood:
    """Return the likelihood behind a loss: its name, torch's function or module of it, or an object that is
    one already.

    Raises:
        InputError: a loss whose distribution is not known, or a module with weights or smoothing.
    """
    accepted = (
        "expected 'cross_entropy', 'squared_error', torch's losses of these, or an evaluators.tic.Likelihood"
    )
    if isinstance(loss, Likelihood):
        return loss
    if isinstance(loss, str) and loss in LIKELIHOODS:
        return LIKELIHOODS[loss]()
    if isinstance(loss, nn.CrossEntropyLoss):
        if loss.weight is None and not loss.label_smoothing and loss.ignore_index < 0:
            return CrossEntropy()
        raise InputError(
            f"TIC: {loss} with weights, smoothing or ignored labels has no distribution to draw from; "
            f"{accepted}"
        )
    if isinstance(loss, nn.MSELoss):
        return SquaredError()
    if callable(loss) and loss in _FUNCTIONS:
        return _FUNCTIONS[loss]()
    raise InputError(f"TIC: loss {loss!r}; {accepted}")
