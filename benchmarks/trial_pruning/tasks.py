"""The tasks: data splits, a model family, and configurations drawn from a space of hyper-parameters."""

from __future__ import annotations

import math
import sysconfig
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_wine,
    make_classification,
    make_friedman1,
)
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
    """

    loss = "cross_entropy"
    tuning = False
    costly = False

    @abstractmethod
    def splits(self, seed: int) -> Splits:
        """Return the data split of a seed."""

    @abstractmethod
    def model(self, config: dict[str, Any]) -> nn.Module:
        """Return a new model; torch's generator is seeded by the caller."""

    def config(self, rng: np.random.Generator) -> dict[str, Any]:
        """Draw a configuration: the settings of AdamW, the schedule, and the model's own."""
        common = {
            "learning_rate": _log(rng, 1e-4, 3e-2),
            "weight_decay": _log(rng, 1e-4, 1.0),
            "batch_size": int(rng.choice([16, 32, 64])),
            "schedule": str(rng.choice(["constant", "cosine"])),
            "dropout": float(rng.choice([0.0, 0.2, 0.5])),
        }
        return common | self.architecture(rng)

    def architecture(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"width": round(_log(rng, 8, 256)), "depth": int(rng.integers(1, 4))}


def _log(rng: np.random.Generator, low: float, high: float) -> float:
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def perceptron(inputs: int, outputs: int, width: int, depth: int, dropout: float) -> nn.Module:
    """Linear layers and ReLUs, without normalisation, as in the paper."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def _split(
    inputs: Tensor, targets: Tensor, sizes: tuple[int, int], seed: int, limit: int | None = None
) -> Splits:
    """Shuffle by the seed; the rest after training and validation samples (at most `limit`) is the test
    split.
    """
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
    train, val = sizes
    parts = [order[:train], order[train : train + val], order[train + val :][:limit]]
    return Splits(*((inputs[part], targets[part]) for part in parts))


def _noisy(labels: Tensor, share: float, classes: int, seed: int) -> Tensor:
    """Replace a share of the labels by other ones, everywhere alike: noise is part of the distribution."""
    generator = torch.Generator().manual_seed(1000 + seed)
    wrong = torch.rand(len(labels), generator=generator) < share
    shift = torch.randint(1, classes, labels.shape, generator=generator)
    return torch.where(wrong, (labels + shift) % classes, labels)


class DigitsMLP(Task):
    """Digits with 400 training samples, label noise or none: what METHODS' pilots were tuned on."""

    tuning = True

    def __init__(self, noise: float) -> None:
        self.noise = noise

    def splits(self, seed: int) -> Splits:
        inputs, labels = _digits()
        return _split(inputs.flatten(1), _noisy(labels, self.noise, 10, seed), (400, 150), seed)

    def model(self, config: dict[str, Any]) -> nn.Module:
        return perceptron(64, 10, config["width"], config["depth"], config["dropout"])


class DigitsCNN(Task):
    """Digits with 300 training images and 10 % label noise, a convolutional net."""

    def splits(self, seed: int) -> Splits:
        inputs, labels = _digits()
        return _split(inputs.unsqueeze(1), _noisy(labels, 0.1, 10, seed), (300, 120), seed)

    def architecture(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"width": round(_log(rng, 4, 32)), "depth": int(rng.integers(1, 4))}

    def model(self, config: dict[str, Any]) -> nn.Module:
        layers: list[nn.Module] = []
        channels = 1
        for layer in range(config["depth"]):
            width = config["width"] * min(2, layer + 1)
            layers += [
                nn.Conv2d(channels, width, 3, padding=1),
                nn.ReLU(),
                *([nn.MaxPool2d(2)] if layer < 2 else []),
            ]
            channels = width
        side = 8 // 2 ** min(2, config["depth"])
        return nn.Sequential(
            *layers, nn.Flatten(), nn.Dropout(config["dropout"]), nn.Linear(channels * side * side, 10)
        )


class BreastCancer(Task):
    """Wisconsin breast cancer: 200 training samples of 30 features, two classes."""

    def splits(self, seed: int) -> Splits:
        found = load_breast_cancer()
        return _split(_standard(found.data), torch.from_numpy(found.target).long(), (200, 80), seed)

    def model(self, config: dict[str, Any]) -> nn.Module:
        return perceptron(30, 2, config["width"], config["depth"], config["dropout"])


class Diabetes(Task):
    """Progression of diabetes from ten features: 180 training samples, squared error of the standardised
    target.
    """

    loss = "squared_error"

    def splits(self, seed: int) -> Splits:
        found = load_diabetes()
        return _split(_standard(found.data), _standard(found.target[:, None]), (180, 72), seed)

    def model(self, config: dict[str, Any]) -> nn.Module:
        return perceptron(10, 1, config["width"], config["depth"], config["dropout"])


class Wine(Task):
    """Three cultivars of wine from 13 features: 80 training samples, 5 % label noise."""

    tuning = True

    def splits(self, seed: int) -> Splits:
        found = load_wine()
        return _split(
            _standard(found.data),
            _noisy(torch.from_numpy(found.target).long(), 0.05, 3, seed),
            (80, 40),
            seed,
        )

    def model(self, config: dict[str, Any]) -> nn.Module:
        return perceptron(13, 3, config["width"], config["depth"], config["dropout"])


class Friedman(Task):
    """Friedman's first function of ten features, with noise: generated, 200 training samples, squared error
    of the standardised target.
    """

    loss = "squared_error"
    tuning = True

    def splits(self, seed: int) -> Splits:
        inputs, targets = make_friedman1(1280, noise=3.0, random_state=seed)
        return _split(_standard(inputs), _standard(targets[:, None]), (200, 80), seed)

    def model(self, config: dict[str, Any]) -> nn.Module:
        return perceptron(10, 1, config["width"], config["depth"], config["dropout"])


class Clusters(Task):
    """Generated: two classes of four clusters each in 20 dimensions, 10 % label noise, 240
    training samples.
    """

    tuning = True

    def splits(self, seed: int) -> Splits:
        inputs, labels = make_classification(
            1340, 20, n_informative=6, n_clusters_per_class=4, flip_y=0.1, random_state=seed
        )
        return _split(_standard(inputs), torch.from_numpy(labels).long(), (240, 100), seed)

    def model(self, config: dict[str, Any]) -> nn.Module:
        return perceptron(20, 2, config["width"], config["depth"], config["dropout"])


class CharTransformer(Task):
    """The next character of Python's own sources: about 100,000 characters in sequences of 64; each seed
    takes other files.
    """

    length, vocabulary = 64, 96
    costly = True

    def splits(self, seed: int) -> Splits:
        text = _sources(seed)
        codes = torch.tensor(
            [min(max(ord(c) - 31, 0), self.vocabulary - 1) for c in text]
        )  # printable ASCII; 0 stands for the rest
        count = (len(codes) - 1) // self.length
        inputs = codes[: count * self.length].view(count, self.length)
        targets = codes[1 : count * self.length + 1].view(count, self.length)
        return _split(inputs, targets, (800, 200), seed, 560)

    def architecture(self, rng: np.random.Generator) -> dict[str, Any]:
        architecture = {
            "width": int(rng.choice([16, 32])),
            "depth": int(rng.integers(1, 3)),
            "heads": int(rng.choice([2, 4])),
        }
        return architecture | {"batch_size": int(rng.choice([32, 64]))}

    def model(self, config: dict[str, Any]) -> nn.Module:
        return Transformer(
            self.vocabulary, self.length, config["width"], config["depth"], config["heads"], config["dropout"]
        )


class Transformer(nn.Module):
    """A small causal transformer: tokens ``(batch, length)`` to logits ``(batch, vocabulary, length)``."""

    def __init__(
        self, vocabulary: int, length: int, width: int, depth: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList([_Block(width, heads, dropout) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]).expand_as(tokens))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)).transpose(1, 2)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        heard = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.dropout(self.mix(heard.transpose(1, 2).reshape(batch, length, -1)))
        return x + self.dropout(self.down(torch.relu(self.up(self.norm2(x)))))


@cache
def _digits() -> tuple[Tensor, Tensor]:
    found = load_digits()
    images = torch.from_numpy(found.images).float() / 16
    return (images - images.mean()) / images.std(), torch.from_numpy(found.target).long()


def _standard(values: np.ndarray) -> Tensor:
    tensor = torch.from_numpy(values).double()
    return ((tensor - tensor.mean(0)) / tensor.std(0)).float()


@cache
def _sources(seed: int, characters: int = 100_000) -> str:
    """The beginnings of files of the standard library, in an order drawn by the seed."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(path for path in folder.glob("*.py") if path.stat().st_size > 8000)
    order = np.random.default_rng(seed).permutation(len(files))
    text = ""
    for i in order:
        text += files[i].read_text(encoding="utf-8", errors="replace")[:8000]
        if len(text) > characters:
            break
    return text[: characters + 1]


TASKS: dict[str, Task] = {
    "digits-mlp": DigitsMLP(0.0),
    "digits-mlp-noisy": DigitsMLP(0.2),
    "digits-cnn": DigitsCNN(),
    "breast-cancer": BreastCancer(),
    "diabetes": Diabetes(),
    "characters": CharTransformer(),
    "wine": Wine(),
    "friedman": Friedman(),
    "clusters": Clusters(),
}
