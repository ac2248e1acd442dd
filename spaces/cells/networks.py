"""Networks with places for cells: a stack that is made of them, and a U-Net that takes them into
its skips.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.cells.insertion import Insertion
from spaces.errors import InputError


class CellStack(nn.Module):
    """DARTS' classifier [P]: a stem, normal cells, and reduction cells that halve the image and double the
    channels; a linear head.

    It is nothing without its cells: places have the kinds ``normal`` and ``reduction``, each with the two
    cells before it as inputs.

    Args:
        width: channels of a node before the first reduction.
        cells: number of cells.
        reductions: which of them reduce, from 0; null: those at a third and two thirds.
        inputs: channels of the image.
        classes: outputs of the head.
        joined: outputs of a cell's graph that are concatenated: 4 for DARTS' cell. Another graph works too,
            with a projection.
        stem: channels of the stem; null: three times the width.
    """

    hollow = True
    """There is nothing to train before the cells are there."""

    def __init__(
        self,
        width: int = 8,
        cells: int = 5,
        reductions: Sequence[int] | None = None,
        inputs: int = 1,
        classes: int = 10,
        joined: int = 4,
        stem: int | None = None,
    ) -> None:
        super().__init__()
        reduce = sorted({cells // 3, 2 * cells // 3}) if reductions is None else sorted(set(reductions))
        if cells < 1 or any(not 0 <= number < cells for number in reduce):
            raise InputError(
                f"model CellStack: reductions {reduce} of {cells} cells; expected numbers from 0 to "
                f"{cells - 1}"
            )
        stem = 3 * width if stem is None else stem
        self.stem = nn.Sequential(nn.Conv2d(inputs, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(stem))
        before, last, halved = stem, stem, False
        places = []
        for number in range(cells):
            reducing = number in reduce
            width *= 2 if reducing else 1
            kind, stride = ("reduction", 2) if reducing else ("normal", 1)
            places.append(
                Insertion((before, last), joined * width, kind, stride, (halved, False), residual=False)
            )
            before, last, halved = last, joined * width, reducing
        self.cells = nn.ModuleList(places)
        self.head = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(batch, inputs, height, width)`` to logits ``(batch, classes)``."""
        before = last = self.stem(x)
        for cell in self.cells:
            before, last = last, cell(before, last)
        return self.head(torch.flatten(F.adaptive_avg_pool2d(last, 1), 1))


class SkipUNet(nn.Module):
    """A small U-Net (Ronneberger et al. 2015 [P]) whose skips are insertion points: skip and upsampled
    decoder feature go in.

    Args:
        widths: channels of each resolution; height and width of the image must divide by 2 to the number of
            them less one.
        inputs: channels of the image.
        classes: channels of the logits.
    """

    def __init__(self, widths: Sequence[int] = (8, 16, 32), inputs: int = 1, classes: int = 4) -> None:
        super().__init__()
        if len(widths) < 2:
            raise InputError(f"model SkipUNet: widths {list(widths)}; expected at least two")
        sizes = [inputs, *widths]
        self.down = nn.ModuleList([_block(a, b) for a, b in zip(sizes, widths, strict=False)])
        pairs = list(pairwise(widths))[::-1]
        self.rise = nn.ModuleList([nn.ConvTranspose2d(low, high, 2, 2) for high, low in pairs])
        self.skips = nn.ModuleList([Insertion((high, high)) for high, _ in pairs])
        self.up = nn.ModuleList([_block(2 * high, high) for high, _ in pairs])
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(batch, inputs, height, width)`` to logits ``(batch, classes, height, width)``."""
        held = []
        for number, block in enumerate(self.down):
            x = block(x if number == 0 else F.max_pool2d(x, 2))
            held.append(x)
        held.pop()
        for rise, skip, block in zip(self.rise, self.skips, self.up, strict=True):
            x = rise(x)
            x = block(torch.cat([skip(held.pop(), x), x], 1))
        return self.head(x)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
