"""Generated families of tasks to tune on: what small and noisy data have in common, one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.datasets import make_classification
from torch import nn

from benchmarks.trial_pruning.task import Splits, Task, log_uniform, perceptron, split, standard

_TEST = 1000


@dataclass(frozen=True)
class Generated(Task):
    """A family of tasks; every seed generates another one.

    Args:
        train, val: samples.
        features: inputs, of which `informative` say anything.
        widths: smallest and largest width of a net.
    """

    train: int
    val: int
    features: int = 16
    informative: int = 6
    widths: tuple[int, int] = (8, 128)

    tuning = True
    lean = True

    def architecture(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"width": round(log_uniform(rng, *self.widths)), "depth": int(rng.integers(1, 4))}


@dataclass(frozen=True)
class GeneratedClasses(Generated):
    """Gaussian clusters at the corners of a cube, with label noise.

    Args:
        classes: of two clusters each.
        noise: share of the labels that are drawn at random.
        first: share of the first class; None: all alike.
    """

    classes: int = 3
    noise: float = 0.1
    first: float | None = None

    def splits(self, seed: int) -> Splits:
        inputs, labels = make_classification(
            self.train + self.val + _TEST,
            self.features,
            n_informative=self.informative,
            n_classes=self.classes,
            weights=None if self.first is None else [self.first],
            flip_y=self.noise,
            random_state=seed,
        )
        return split(standard(inputs), torch.from_numpy(labels).long(), (self.train, self.val), seed)

    def model(self, config: dict[str, Any]) -> nn.Module:
        return perceptron(self.features, self.classes, config["width"], config["depth"], config["dropout"])


@dataclass(frozen=True)
class GeneratedRegression(Generated):
    """A sum of eight ridges of a few inputs, squared error of the standardised target.

    Args:
        noise: standard deviation of the noise, the signal's being 1; its scale where it has tails.
        freedom: degrees of Student's t that the noise has; None: normal.
        correlation: of every two inputs.
    """

    noise: float = 0.5
    freedom: float | None = None
    correlation: float = 0.0

    loss = "squared_error"

    def splits(self, seed: int) -> Splits:
        rng = np.random.default_rng(seed)
        count = self.train + self.val + _TEST
        common = rng.normal(size=(count, 1))
        own = rng.normal(size=(count, self.features))
        inputs = np.sqrt(self.correlation) * common + np.sqrt(1 - self.correlation) * own
        ridges = np.tanh(inputs[:, : self.informative] @ rng.normal(size=(self.informative, 8)))
        signal = ridges @ rng.normal(size=8)
        drawn = rng.normal(size=count) if self.freedom is None else rng.standard_t(self.freedom, count)
        targets = (signal - signal.mean()) / signal.std() + self.noise * drawn
        return split(standard(inputs), standard(targets[:, None]), (self.train, self.val), seed)

    def model(self, config: dict[str, Any]) -> nn.Module:
        return perceptron(self.features, 1, config["width"], config["depth"], config["dropout"])


FAMILIES: dict[str, Task] = {
    "noisy-labels": GeneratedClasses(160, 64, classes=4, noise=0.3),
    "imbalanced": GeneratedClasses(200, 80, classes=2, noise=0.04, first=0.9),
    "small-split": GeneratedClasses(150, 24),
    "large-split": GeneratedClasses(120, 400),
    "tiny": GeneratedClasses(40, 32, features=10, classes=2),
    "wide": GeneratedClasses(100, 48, widths=(96, 384)),
    "narrow": GeneratedClasses(160, 64, classes=4, noise=0.05, widths=(2, 12)),
    "heavy-tails": GeneratedRegression(160, 64, freedom=2.5),
    "correlated": GeneratedRegression(120, 48, features=30, informative=15, correlation=0.8),
    "noisy-regression": GeneratedRegression(100, 40, noise=1.5),
}
