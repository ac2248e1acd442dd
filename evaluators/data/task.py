"""What is learned from data: the loss and the metrics of every sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from spaces.structures import tensors


class Task(ABC):
    """Loss and metrics of every sample, and which targets are valid."""

    metric_names: ClassVar[tuple[str, ...]]

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of every sample, shape ``(batch,)``, differentiable."""

    @abstractmethod
    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the metrics of every sample by their names, each of shape ``(batch,)``."""

    def typed(self, targets: Tensor) -> Tensor:
        """Return targets in the type that the loss takes: integers as int64; others (bool, floats) as they
        are.
        """
        return targets if targets.is_floating_point() or targets.dtype == torch.bool else targets.long()

    def invalid(self, targets: Tensor, train: Tensor) -> tuple[Tensor, str]:
        """Return which entries of `targets` are out of range (its shape), and what is accepted, given those
        of the training split.
        """
        return torch.zeros_like(targets, dtype=torch.bool), ""


@dataclass(frozen=True)
class Classification(Task):
    """Cross-entropy, error and accuracy of logits ``(batch, classes, ...)`` against integer labels
    ``(batch, ...)``.

    Error and accuracy are the shares of wrong and right predictions. The expected error is that of a class
    drawn from the model's own probabilities, 1 - p(label): it changes with every weight, so a search that
    takes the best of thousands by it is misled less by the few samples on which candidates happen to differ.
    [O]

    Attributes:
        classes: labels lie in 0 to ``classes - 1``; None: as many as the training labels show.
    """

    classes: int | None = None
    metric_names: ClassVar[tuple[str, ...]] = ("error", "accuracy", "expected_error")

    def typed(self, targets: Tensor) -> Tensor:
        """Return labels as int64: False and True are 0 and 1."""
        return targets if targets.is_floating_point() else targets.long()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return per_sample(F.cross_entropy(full(outputs), targets, reduction="none"))

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        outputs = full(outputs)
        accuracy = per_sample((outputs.argmax(1) == targets).float())
        expected = 1 - outputs.softmax(1).gather(1, targets.unsqueeze(1)).squeeze(1)
        return {"error": 1 - accuracy, "accuracy": accuracy, "expected_error": per_sample(expected)}

    def invalid(self, targets: Tensor, train: Tensor) -> tuple[Tensor, str]:
        if targets.is_floating_point():
            return torch.ones_like(targets, dtype=torch.bool), "integers (float targets are for Regression)"
        classes = self.classes or int(train.max()) + 1
        return (targets < 0) | (targets >= classes), f"0 to {classes - 1}" + (
            "" if self.classes else ", the labels of the training split"
        )


@dataclass(frozen=True)
class WeightedClassification(Classification):
    """The same with a weight for each class in the loss, which metrics do not know.

    Attributes:
        weights: of the classes, in their order.
    """

    weights: tuple[float, ...] = ()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        weights = torch.tensor(self.weights, device=outputs.device)
        return per_sample(F.cross_entropy(full(outputs), targets, weights, reduction="none"))


@dataclass(frozen=True)
class Regression(Task):
    """Squared error (the loss) and absolute error, averaged over the entries of a target."""

    metric_names: ClassVar[tuple[str, ...]] = ("squared_error", "absolute_error")

    def typed(self, targets: Tensor) -> Tensor:
        """Return numbers: False and True are 0 and 1."""
        return targets if targets.is_floating_point() else targets.long()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return per_sample((full(outputs) - full(_fit(targets, outputs))).square())

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        difference = full(outputs) - full(_fit(targets, outputs))
        return {
            "squared_error": per_sample(difference.square()),
            "absolute_error": per_sample(difference.abs()),
        }


def prediction(outputs: Any) -> Any:
    """Return the tensor that a task looks at: the outputs, or what is called ``logits`` in them, or their
    first tensor.
    """
    if isinstance(outputs, Tensor):
        return outputs
    named = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    return next(iter(tensors(outputs)), outputs) if named is None else named


def full(values: Tensor) -> Tensor:
    """Return floats of 16 bits as float32, in which losses are computed; others are the very same tensor."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def per_sample(values: Tensor) -> Tensor:
    """Average over all axes but the first: ``(batch, ...)`` to ``(batch,)``."""
    return values.flatten(1).mean(1) if values.ndim > 1 else values


def _fit(targets: Tensor, outputs: Tensor) -> Tensor:
    """Give targets ``(batch,)`` the shape of outputs ``(batch, 1)``: broadcasting would compare every sample
    with every other.
    """
    if targets.numel() != outputs.numel():
        raise ValueError(
            f"the model's outputs {tuple(outputs.shape)} do not fit the targets {tuple(targets.shape)}"
        )
    return targets.reshape(outputs.shape)
