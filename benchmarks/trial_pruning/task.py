"""What a task of the benchmark is, and the pieces that tasks are made of."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

EPOCHS = 27
"""The maximum resource: 3 to the third, so that halving by three comes out even."""


@dataclass(frozen=True)
class Splits:
    """Inputs and targets of the training, validation and test samples."""

    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]

    def joined(self) -> Splits:
        """Training and validation samples together as training samples: for a criterion that needs no
        validation split.
        """
        inputs, targets = (torch.cat([a, b]) for a, b in zip(self.train, self.val, strict=True))
        return Splits((inputs, targets), self.val, self.test)


class Task(ABC):
    """One task of the benchmark.

    Attributes:
        loss: name of the loss, as TIC and :func:`losses` take it.
        tuning: whether methods were tuned on it, so that nothing may be claimed on it.
        costly: whether an estimate costs so much that only every third epoch has one, beside the first three.
        lean: whether one pool a split is enough, and estimates on 64 validation samples alone.
    """

    loss = "cross_entropy"
    tuning = False
    costly = False
    lean = False

    @abstractmethod
    def splits(self, seed: int) -> Splits:
        """Return the data split of a seed."""

    @abstractmethod
    def model(self, config: dict[str, Any]) -> nn.Module:
        """Return a new model; torch's generator is seeded by the caller."""

    def config(self, rng: np.random.Generator) -> dict[str, Any]:
        """Draw a configuration: the settings of AdamW, the schedule, and the model's own."""
        common = {
            "learning_rate": log_uniform(rng, 1e-4, 3e-2),
            "weight_decay": log_uniform(rng, 1e-4, 1.0),
            "batch_size": int(rng.choice([16, 32, 64])),
            "schedule": str(rng.choice(["constant", "cosine"])),
            "dropout": float(rng.choice([0.0, 0.2, 0.5])),
        }
        return common | self.architecture(rng)

    def architecture(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"width": round(log_uniform(rng, 8, 256)), "depth": int(rng.integers(1, 4))}


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def perceptron(inputs: int, outputs: int, width: int, depth: int, dropout: float) -> nn.Module:
    """Linear layers and ReLUs, without normalisation, as in the paper."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def split(
    inputs: Tensor, targets: Tensor, sizes: tuple[int, int], seed: int, limit: int | None = None
) -> Splits:
    """Shuffle by the seed; the rest after training and validation samples (at most `limit`) is the test
    split.
    """
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
    train, val = sizes
    parts = [order[:train], order[train : train + val], order[train + val :][:limit]]
    return Splits(*((inputs[part], targets[part]) for part in parts))


def noisy(labels: Tensor, share: float, classes: int, seed: int) -> Tensor:
    """Replace a share of the labels by other ones, everywhere alike: noise is part of the distribution."""
    generator = torch.Generator().manual_seed(1000 + seed)
    wrong = torch.rand(len(labels), generator=generator) < share
    shift = torch.randint(1, classes, labels.shape, generator=generator)
    return torch.where(wrong, (labels + shift) % classes, labels)


def standard(values: np.ndarray) -> Tensor:
    """Return values of mean 0 and standard deviation 1 in every column."""
    tensor = torch.from_numpy(values).double()
    return ((tensor - tensor.mean(0)) / tensor.std(0)).float()
