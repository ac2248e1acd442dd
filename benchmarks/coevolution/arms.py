"""What is compared on digits: a task, a budget of gradient steps counted in MACs, points, and
what an arm is.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import moocore
import numpy as np
import torch
from torch import Tensor, nn

from evaluators.data import Digits, Reconstruction
from spaces import Pair
from spaces.models import Perceptron

WIDTHS = (64, 48, 24, 10, 24, 48, 64)
"""The pair of ``configs/digits_autoencoder.yaml``: encoder to the 10, decoder from there; ReLU but on the
latent and the output.
"""
LATENT = 3
SPLITS = ("train", "search", "test")


@dataclass(frozen=True)
class Task:
    """Digits, scaled to 0..1, squared error of their reconstruction; ``missing`` of an input's pixels are 0,
    the targets are whole.
    """

    name: str
    missing: float = 0.0

    def data(self, seed: int) -> Reconstruction:
        """The same for every arm: 898 training samples, 359 for search and 359 for test; the seed splits them
        and takes the pixels.
        """
        return Reconstruction(Digits(seed=seed), "mse", unit=True, missing=self.missing, seed=seed)

    def tensors(self, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
        """Inputs and targets ``(samples, 64)`` by split."""
        return _tensors(self, seed)

    def constant(self, seed: int, split: str = "test") -> float:
        """Loss of the mean training image."""
        tensors = self.tensors(seed)
        return float((tensors[split][1] - tensors["train"][1].mean(0)).square().mean())


@cache
def _tensors(task: Task, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    data = task.data(seed)
    found = {split: next(data.batches(split, data.size(split))) for split in SPLITS}  # type: ignore[arg-type]
    return {split: (inputs.flatten(1), targets.flatten(1)) for split, (inputs, targets) in found.items()}  # type: ignore[union-attr]


TASKS = {task.name: task for task in (Task("digits"), Task("digits-missing", 0.25))}


def pair(seed: int) -> Pair:
    """The unpruned model, its weights drawn by the seed: what the product is given."""
    torch.manual_seed(seed)
    return Pair(Perceptron(WIDTHS[: LATENT + 1]), Perceptron(WIDTHS[LATENT:]))


def parameters(widths: Sequence[int]) -> int:
    """Weights and biases of a perceptron."""
    return sum(n * m + m for n, m in itertools.pairwise(widths))


def macs(widths: Sequence[int]) -> int:
    """Multiply-adds of one sample's forward pass; a gradient step costs three times as much for every sample
    of its batch.
    """
    return sum(n * m for n, m in itertools.pairwise(widths))


EPOCHS = 1200
"""Of the unpruned pair on 898 samples: the budget of every arm, in epochs. Smaller models get more."""
BUDGET = 3 * macs(WIDTHS) * 898 * EPOCHS


class Spent:
    """Counts what gradient steps cost."""

    def __init__(self, budget: float) -> None:
        self.budget, self.macs = budget, 0.0

    def step(self, widths: Sequence[int], samples: int) -> None:
        """Add a step."""
        self.macs += 3 * macs(widths) * samples


@dataclass(frozen=True)
class Point:
    """A trained compact model: mean squared errors, number of parameters."""

    search: float
    test: float
    params: int


class Arm(ABC):
    """A way to come to a front of small autoencoders."""

    name: str

    @abstractmethod
    def run(self, task: Task, seed: int, budget: float) -> tuple[list[Point], float]:
        """Return trained models and the MACs that gradient steps took, at most ``budget``; nothing may be
        chosen by the test split.
        """


def measured(model: nn.Module, task: Task, seed: int) -> Point:
    """A model that takes ``(samples, 64)``, as a point."""
    with torch.no_grad():
        losses = [
            float((model(x) - y).square().mean())
            for x, y in (task.tensors(seed)[split] for split in ("search", "test"))
        ]
    return Point(losses[0], losses[1], sum(p.numel() for p in model.parameters()))


def chosen(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats on the search split, smallest first."""
    values = np.array([[p.search, p.params] for p in points])
    return sorted(
        (points[int(i)] for i in np.flatnonzero(moocore.is_nondominated(values, keep_weakly=False))),
        key=lambda p: p.params,
    )


def hypervolume(points: Sequence[Point], constant: float) -> float:
    """Area over (test loss / the constant predictor's, ln of params / unpruned) to the reference (1, 0), of
    points chosen on search.
    """
    values = np.array([[p.test / constant, np.log(p.params / parameters(WIDTHS))] for p in chosen(points)])
    return float(moocore.hypervolume(values, ref=np.array([1.0, 0.0])))
