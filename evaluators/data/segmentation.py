"""Segmentation: one label a pixel, loss and overlap of every case."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluators.data.base import Data, Split
from evaluators.data.task import Task, full, per_sample
from spaces.calling import forward, mode
from spaces.errors import InputError


@dataclass(frozen=True)
class Segmentation(Task):
    """Dice loss plus cross-entropy, and the Dice overlap, of logits ``(batch, classes, ...)`` against labels
    ``(batch, ...)``.

    Class 0 is the background: it counts in the cross-entropy alone. ``dice`` is the mean over the structures
    of 2 |A and B| / (|A| + |B|) of the case; a structure that is neither in the labels nor predicted counts
    1, and so does each ``dice_<class>`` then. ``dice_error`` is 1 - ``dice``, where less is to be better. The
    Dice loss is the soft one of V-Net (Milletari et al. 2016) with denominators of sums, and 1 added to both
    sides of the fraction. [P]

    Attributes:
        classes: the background and at least one structure; labels lie in 0 to ``classes - 1``.

    Raises:
        InputError: less than 2 classes.
    """

    classes: int

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise InputError(
                f"data: {self.classes} classes; expected at least 2, the background and a structure"
            )

    @property
    def metric_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("dice", "dice_error", *(f"dice_{label}" for label in range(1, self.classes)))

    def typed(self, targets: Tensor) -> Tensor:
        """Return labels as int64: False and True are background and structure."""
        return targets if targets.is_floating_point() else targets.long()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        outputs = full(outputs)
        entropy = per_sample(F.cross_entropy(outputs, targets, reduction="none"))
        chances = outputs.softmax(1)[:, 1:].flatten(2)
        masks = self._masks(targets)
        overlap = (2 * (chances * masks).sum(2) + 1) / (chances.sum(2) + masks.sum(2) + 1)
        return entropy + 1 - overlap.mean(1)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        overlap = self.overlap(outputs.argmax(1), targets)
        dice = overlap.mean(1)
        return {
            "dice": dice,
            "dice_error": 1 - dice,
            **{f"dice_{i + 1}": overlap[:, i] for i in range(self.classes - 1)},
        }

    def overlap(self, predicted: Tensor, targets: Tensor, cases: np.ndarray | None = None) -> Tensor:
        """Return the Dice overlap of every case and structure, ``(cases, classes - 1)``.

        Args:
            predicted: labels ``(samples, ...)``.
            targets: labels of the same shape.
            cases: which case a sample belongs to, integers from 0 ``(samples,)``, e.g. the volume of a slice:
                sizes are summed over a case before they are divided. None: every sample is a case.
        """
        a, b = self._masks(predicted), self._masks(targets)
        both, sizes = (a * b).sum(2), a.sum(2) + b.sum(2)
        if cases is not None:
            index = torch.from_numpy(np.asarray(cases, dtype=np.int64))
            empty = both.new_zeros((int(index.max()) + 1, both.shape[1]))
            both, sizes = empty.index_add(0, index, both), empty.index_add(0, index, sizes)
        return torch.where(sizes > 0, 2 * both / sizes.clamp(min=1), torch.ones_like(sizes))

    def invalid(self, targets: Tensor, train: Tensor) -> tuple[Tensor, str]:
        expected = f"integers from 0 to {self.classes - 1} (0 is the background)"
        if targets.is_floating_point():
            return torch.ones_like(targets, dtype=torch.bool), expected
        return (targets < 0) | (targets >= self.classes), expected

    def _masks(self, labels: Tensor) -> Tensor:
        """Return where each structure is, float ``(batch, classes - 1, pixels)``."""
        structures = torch.arange(1, self.classes, device=labels.device)
        return (labels.flatten(1).unsqueeze(1) == structures[:, None]).float()


def overlap_by_case(
    model: nn.Module, data: Data, split: Split, size: int = 32
) -> tuple[list[str], np.ndarray]:
    """Return the names of a split's cases and their Dice overlaps, ``(cases, classes - 1)``, of a model in
    eval mode.

    A case is what ``data.cases(split)`` says, a volume of several slices for instance; where it says nothing
    every sample is one.

    Raises:
        InputError: the data are no segmentation.
    """
    task = data.task
    if not isinstance(task, Segmentation):
        raise InputError(
            f"data: {type(data).__name__} has no labels a pixel; expected data whose task is Segmentation"
        )
    predicted, targets = [], []
    with mode(model, False), torch.inference_mode():
        for inputs, labels in data.batches(split, size):
            predicted.append(forward(model, inputs).argmax(1))
            targets.append(labels)
    known = data.cases(split)
    overlap = task.overlap(
        torch.cat(predicted), torch.cat(targets), None if known is None else known[0]
    ).numpy()
    return (known[1] if known else [str(i) for i in range(len(overlap))]), overlap
