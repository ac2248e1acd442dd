"""Tasks of several labels a sample: of tokens, and of properties that exclude nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from evaluators.data.task import Task, full, per_sample

IGNORED = -100
"""The label of tokens that do not count, as torch and Hugging Face have it."""


@dataclass(frozen=True)
class TokenClassification(Task):
    """Cross-entropy, error and accuracy of logits ``(batch, length, classes)`` against labels ``(batch,
    length)``, averaged over the tokens of a sample that count.

    Attributes:
        shift: whether each token is to be told by what comes before it, as in language models: the logits of
            a place are those of the next label.
    """

    shift: bool = False
    metric_names: ClassVar[tuple[str, ...]] = ("error", "accuracy")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        outputs, targets = self._aligned(outputs, targets)
        losses = F.cross_entropy(
            full(outputs).movedim(-1, 1), targets, reduction="none", ignore_index=IGNORED
        )
        return _mean(losses, targets)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        outputs, targets = self._aligned(outputs, targets)
        error = _mean((outputs.argmax(-1) != targets).float(), targets)
        return {"error": error, "accuracy": 1 - error}

    def _aligned(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return (outputs[:, :-1], targets[:, 1:]) if self.shift else (outputs, targets)


@dataclass(frozen=True)
class MultiLabel(Task):
    """Binary cross-entropy of logits ``(batch, labels)`` against labels 0 and 1 of that shape, averaged over
    them; the share of wrong ones is the error.
    """

    metric_names: ClassVar[tuple[str, ...]] = ("error", "accuracy")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        outputs = full(outputs)
        losses = F.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype), reduction="none")
        return per_sample(losses)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        error = per_sample(((outputs > 0) != (targets > 0.5)).float())
        return {"error": error, "accuracy": 1 - error}


def _mean(values: Tensor, targets: Tensor) -> Tensor:
    """Average over the tokens of each sample that count; 0 where none does."""
    counted = (targets != IGNORED).to(values.dtype)
    return (values * counted).flatten(1).sum(1) / counted.flatten(1).sum(1).clamp(min=1)
