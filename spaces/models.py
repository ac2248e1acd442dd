"""Small reference networks for quickstarts, tests and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Bits", "DenseNet", "Perceptron", "ResidualBlock", "ResidualNet"]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm and a shortcut, projected where shapes differ (He et
    al. 2016). [P]
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        same = inputs == outputs and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResidualNet(nn.Module):
    """A residual network for small images: a stem, stages of `blocks` blocks that halve the resolution from
    the second on, a linear head.

    Args:
        widths: channels of each stage.
        blocks: residual blocks a stage.
        inputs: channels of the image.
        classes: outputs of the head.
    """

    def __init__(
        self, widths: Sequence[int] = (16, 32, 64), blocks: int = 1, inputs: int = 1, classes: int = 10
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(inputs, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        stages: list[nn.Module] = []
        before = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                stages.append(ResidualBlock(before, width, stride=2 if stage and not block else 1))
                before = width
        self.blocks = nn.Sequential(*stages)
        self.head = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(batch, inputs, height, width)`` to logits ``(batch, classes)``."""
        x = self.blocks(self.stem(x))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class Bits(nn.Module):
    """Probabilities while it is trained, the likelier of 0 and 1 in eval mode."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x) if self.training else (x > 0).to(x.dtype)


class Perceptron(nn.Module):
    """A multi-layer perceptron with ReLU on flattened inputs.

    Args:
        widths: of the input, the hidden layers and the output.
        last: what follows the last layer; ``bits``: :class:`Bits`.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 64, 32, 10),
        last: Literal["none", "relu", "sigmoid", "bits"] = "none",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        ends: dict[str, list[nn.Module]] = {
            "none": [],
            "relu": [nn.ReLU()],
            "sigmoid": [nn.Sigmoid()],
            "bits": [Bits()],
        }
        self.layers = nn.Sequential(*layers[:-1], *ends[last])

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, ...)`` to ``(batch, outputs)``."""
        return self.layers(torch.flatten(x, 1))


class DenseNet(nn.Module):
    """Hidden layers of equal width with ReLU and dropout, on flattened inputs; no normalisation, which TIC
    would have to leave out.

    Args:
        width: of each hidden layer.
        depth: number of hidden layers, at least 1.
        dropout: share of the hidden units that are dropped in training.
        inputs: numbers a sample.
        outputs: of the last layer, such as classes.
    """

    def __init__(
        self, width: int = 64, depth: int = 1, dropout: float = 0.0, inputs: int = 64, outputs: int = 10
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for place in range(depth):
            layers += [nn.Linear(width if place else inputs, width), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(width, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, ...)`` to ``(batch, outputs)``."""
        return self.layers(torch.flatten(x, 1))
