"""The tasks: they do not saturate, and need no files from outside."""

from __future__ import annotations

import sysconfig
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.fronts.nets import CharacterNet, PlainNet, Recurrent, SmallUNet
from evaluators import Cost, assess
from evaluators.data import Arrays, Classification, Digits, Phantoms
from evaluators.data.base import Split
from spaces import ChannelSpace
from spaces.models import ResidualNet


class Task(ABC):
    """Data, an unpruned network, and smaller ones of another make.

    Attributes:
        epochs: of the unpruned network that every arm's budget pays for.
        batch: samples of a gradient step, of every arm.
        rate: learning rate at the peak of the cycle, which arms take a multiple of.
    """

    name: str
    epochs = 120
    batch = 64
    rate = 3e-3

    @abstractmethod
    def data(self, seed: int) -> Arrays:
        """The same for every arm; the seed splits it."""

    @abstractmethod
    def model(self) -> nn.Module:
        """The unpruned network, its weights drawn from torch's generator."""

    @abstractmethod
    def shelf(self, ratio: float) -> nn.Module:
        """A smaller network of another make, its width scaled by `ratio`."""


class NoisyDigits(Task):
    """scikit-learn's digits: 300 training images, a tenth of which have a wrong label; the other splits are
    clean.
    """

    name = "digits"

    def data(self, seed: int) -> Arrays:
        return Digits(seed=seed, train_samples=300, label_noise=0.1)

    def model(self) -> nn.Module:
        return ResidualNet()

    def shelf(self, ratio: float) -> nn.Module:
        return PlainNet([max(1, round(ratio * width)) for width in (16, 32)])


class Characters(Task):
    """The next character of the standard library's sources: 2,560 stretches of 64 characters for training;
    each seed takes other files.

    Of 320 stretches all networks learned little more than the frequencies of characters before they
    overfitted (.85 of the constant predictor's loss on seed 100); of these the unpruned network reaches .73
    with a fifth of the budget, .53 with all of it.
    """

    name = "characters"
    epochs, batch, rate = 15, 16, 1e-2
    length, symbols = 64, 96

    def data(self, seed: int) -> Arrays:
        counts = {"train": 2560, "calibration": 64, "search": 160, "test": 320}
        codes = np.array(
            [
                min(max(ord(c) - 31, 0), self.symbols - 1)
                for c in _sources(seed, self.length * sum(counts.values()) + 1)
            ]
        )
        inputs, targets = (part.reshape(-1, self.length) for part in (codes[:-1], codes[1:]))
        order = np.random.default_rng([seed, 1]).permutation(len(inputs))
        edges = np.cumsum([0, *counts.values()])
        rows: dict[Split, np.ndarray] = {
            split: order[a:b] for split, a, b in zip(counts, edges, edges[1:], strict=False)
        }  # type: ignore[misc]
        return Arrays(inputs, targets, rows, Classification(self.symbols), seed)  # type: ignore[arg-type]

    def model(self) -> nn.Module:
        return CharacterNet(self.symbols, self.length)

    def shelf(self, ratio: float) -> nn.Module:
        return Recurrent(self.symbols, max(1, round(ratio * 48)))


class Hearts(Task):
    """Segmentation of generated short-axis hearts of 32 x 32 pixels, 100 training images.

    With 23 steps of 64 images at .003 for the unpruned network (seed 100) the loss of every arm stayed above
    the constant predictor's; with 75 steps of 16 at .01 it falls to .37 of it, and to .26 with all of the
    budget.
    """

    name = "hearts"
    epochs, batch, rate = 60, 16, 1e-2

    def data(self, seed: int) -> Arrays:
        return Phantoms(
            32, {"train": 100, "calibration": 40, "search": 80, "test": 160}, difficulty=0.3, seed=seed
        )

    def model(self) -> nn.Module:
        return SmallUNet((8, 16, 32))

    def shelf(self, ratio: float) -> nn.Module:
        return SmallUNet([max(1, round(ratio * width)) for width in (12, 24)])


TASKS: dict[str, Task] = {task.name: task for task in (NoisyDigits(), Characters(), Hearts())}


class Ground:
    """What all arms share of a task and a seed: data, the space over the unpruned network with weights drawn
    by the seed, what models cost.

    All costs are in MACs of the unpruned network's forward pass on one sample.

    Args:
        make: the unpruned network; None: the task's.
    """

    def __init__(self, task: Task, seed: int, make: Callable[[], nn.Module] | None = None) -> None:
        self.task, self.seed, self.data = task, seed, task.data(seed)
        torch.manual_seed(seed)
        self.space = ChannelSpace((make or task.model)(), self.data.example())
        self._cost = Cost()
        self._cost.bind(self.space, self.data)
        self.unit = float(self._cost.screen(self.space.base[None])["macs"][0])
        self.budget = 3.0 * task.epochs * self.data.size("train")

    def macs(self, genome: np.ndarray) -> float:
        """Of a mask's model, over the unpruned one's."""
        return float(self.costs(genome[None])[0])

    def costs(self, genomes: np.ndarray) -> np.ndarray:
        """The same of several masks ``(n, length)``."""
        return self._cost.screen(genomes)["macs"] / self.unit

    @cached_property
    def smallest(self) -> float:
        """The share of the MACs that pruning arms go down to: a tenth above what one channel a
        group takes.
        """
        return 1.1 * self.macs(self.space.repair(np.zeros((1, self.space.length), dtype=np.uint8))[0])

    @cached_property
    def other(self) -> Ground:
        """The same for the network of another make."""
        return Ground(self.task, self.seed, lambda: self.task.shelf(1.0))

    def mixtures(self, repeats: float, budget: float) -> int:
        """How many mixtures there must be beside the training samples for a budget to pass each of them all
        so often; 0: none.
        """
        return int(max(budget / 3 / repeats - self.data.size("train"), 0)) if repeats else 0

    def whole(self, split: Split) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a split."""
        inputs, targets = next(self.data.batches(split, self.data.size(split)))
        assert isinstance(inputs, Tensor)
        return inputs, targets

    @cached_property
    def constants(self) -> dict[str, float]:
        """Loss of the best constant predictor, fitted to the training split, on search and test."""
        return {split: _constant(self.data, split) for split in ("search", "test")}

    def loss(self, model: nn.Module, split: Split) -> float:
        """Mean loss, over the constant predictor's."""
        return assess(model, self.data, self.data.batches(split, 256))["loss"] / self.constants[split]


class _Constant(nn.Module):
    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = nn.Parameter(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.outputs.expand(len(x), *self.outputs.shape[1:])


def _constant(data: Arrays, split: Split) -> float:
    """The loss of the shares of the classes in the training split, whatever the input."""
    _, train = next(data.batches("train", data.size("train")))
    _, targets = next(data.batches(split, data.size(split)))
    classes = max(int(train.max()), int(targets.max())) + 1
    logits = (torch.bincount(train.flatten(), minlength=classes) + 1.0).log()
    outputs = logits.reshape(1, -1, *[1] * (targets.ndim - 1)).expand(len(targets), -1, *targets.shape[1:])
    return float(data.loss(outputs, targets).mean())


def _sources(seed: int, characters: int) -> str:
    """Beginnings of files of the standard library, in an order drawn by the seed."""
    files = sorted(
        path for path in Path(sysconfig.get_paths()["stdlib"]).glob("*.py") if path.stat().st_size > 8000
    )
    text = ""
    for i in np.random.default_rng(seed).permutation(len(files)):
        text += files[i].read_text(encoding="utf-8", errors="replace")[:8000]
        if len(text) >= characters:
            break
    return text[:characters]
