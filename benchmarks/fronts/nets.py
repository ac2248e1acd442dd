"""The networks of the tasks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.fronts.recurrent import QuickGRU
from benchmarks.trial_pruning.tasks import Transformer


class PlainNet(nn.Module):
    """A small LeNet with BatchNorm: convolutions and pooling by turns, then a linear head."""

    def __init__(self, widths: Sequence[int], classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for width in widths:
            layers += [
                nn.Conv2d(before, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
            before = width
        self.features, self.head = nn.Sequential(*layers), nn.LazyLinear(classes)
        self(torch.zeros(2, 1, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1))


class CharacterNet(Transformer):
    """A causal transformer: tokens ``(batch, length)`` to logits ``(batch, symbols, length)``. Its tables
    begin small.
    """

    def __init__(self, symbols: int, length: int, width: int = 32, depth: int = 2, heads: int = 4) -> None:
        super().__init__(symbols, length, width, depth, heads, dropout=0.0)
        for table in (self.tokens, self.places):
            nn.init.normal_(table.weight, std=0.3)


class Recurrent(nn.Module):
    """A GRU over characters: tokens ``(batch, length)`` to logits ``(batch, symbols, length)``."""

    def __init__(self, symbols: int, width: int) -> None:
        super().__init__()
        self.tokens, self.memory, self.head = (
            nn.Embedding(symbols, width),
            QuickGRU(width, width, batch_first=True),
            nn.Linear(width, symbols),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.memory(self.tokens(tokens))[0]).transpose(1, 2)


class SmallUNet(nn.Module):
    """A U-Net with one pair of convolutions a level, of these widths from the finest level on."""

    def __init__(self, widths: Sequence[int], classes: int = 4) -> None:
        super().__init__()
        before = [1, *widths[:-1]]
        self.down = nn.ModuleList([_pair(a, b) for a, b in zip(before, widths, strict=True)])
        self.up = nn.ModuleList([_pair(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True)])
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for level in self.down:
            x = level(x if not skips else F.max_pool2d(x, 2))
            skips.append(x)
        for level, skip in zip(self.up, skips[-2::-1], strict=True):
            x = level(torch.cat([F.interpolate(x, scale_factor=2.0), skip], 1))
        return self.head(x)


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
