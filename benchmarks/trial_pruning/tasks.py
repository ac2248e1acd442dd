"""The tasks: those of the first table here, generated families and more real data in files beside."""

from __future__ import annotations

import sysconfig
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

from benchmarks.trial_pruning.generated import FAMILIES
from benchmarks.trial_pruning.real import REAL
from benchmarks.trial_pruning.task import (
    EPOCHS,
    Splits,
    Task,
    log_uniform,
    noisy,
    perceptron,
    split,
    standard,
)

__all__ = ["EPOCHS", "TASKS", "Splits", "Task", "Transformer", "perceptron"]


class DigitsMLP(Task):
    """Digits with 400 training samples, label noise or none: what METHODS' pilots were tuned on."""

    tuning = True

    def __init__(self, noise: float) -> None:
        self.noise = noise

    def splits(self, seed: int) -> Splits:
        inputs, labels = _digits()
        return split(inputs.flatten(1), noisy(labels, self.noise, 10, seed), (400, 150), seed)

    def model(self, config: dict[str, Any]) -> nn.Module:
        return perceptron(64, 10, config["width"], config["depth"], config["dropout"])


class DigitsCNN(Task):
    """Digits with 300 training images and 10 % label noise, a convolutional net."""

    def splits(self, seed: int) -> Splits:
        inputs, labels = _digits()
        return split(inputs.unsqueeze(1), noisy(labels, 0.1, 10, seed), (300, 120), seed)

    def architecture(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"width": round(log_uniform(rng, 4, 32)), "depth": int(rng.integers(1, 4))}

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
        return split(standard(found.data), torch.from_numpy(found.target).long(), (200, 80), seed)

    def model(self, config: dict[str, Any]) -> nn.Module:
        return perceptron(30, 2, config["width"], config["depth"], config["dropout"])


class Diabetes(Task):
    """Progression of diabetes from ten features: 180 training samples, squared error of the standardised
    target.
    """

    loss = "squared_error"

    def splits(self, seed: int) -> Splits:
        found = load_diabetes()
        return split(standard(found.data), standard(found.target[:, None]), (180, 72), seed)

    def model(self, config: dict[str, Any]) -> nn.Module:
        return perceptron(10, 1, config["width"], config["depth"], config["dropout"])


class Wine(Task):
    """Three cultivars of wine from 13 features: 80 training samples, 5 % label noise."""

    tuning = True

    def splits(self, seed: int) -> Splits:
        found = load_wine()
        return split(
            standard(found.data),
            noisy(torch.from_numpy(found.target).long(), 0.05, 3, seed),
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
        return split(standard(inputs), standard(targets[:, None]), (200, 80), seed)

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
        return split(standard(inputs), torch.from_numpy(labels).long(), (240, 100), seed)

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
        return split(inputs, targets, (800, 200), seed, 560)

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
    **FAMILIES,
    **REAL,
}
