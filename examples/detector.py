"""A small detector: outputs of two scales, nested, and a table of boxes for every image.

python examples/detector.py                           # models below runs/detector/models
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from secateur import Finish, Loaders, Search, Training

SIDE, CLASSES = 32, 2


class Shapes(Dataset[tuple[Tensor, Tensor]]):
    """Images with one to three squares and discs, and tables ``(objects, 5)`` of class and box: centre and
    size as shares of the image. Your annotated images come here.
    """

    def __init__(self, images: int = 600) -> None:
        self.images = images

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(place)
        rows = torch.arange(SIDE)[:, None].expand(SIDE, SIDE)
        image, table = 0.2 * torch.randn(3, SIDE, SIDE, generator=generator), []
        for _ in range(int(torch.randint(1, 4, (), generator=generator))):
            kind = int(torch.randint(CLASSES, (), generator=generator))
            half = int(torch.randint(3, 7, (), generator=generator))
            y, x = torch.randint(half, SIDE - half, (2,), generator=generator).tolist()
            down, right = (rows - y).abs(), (rows.T - x).abs()
            inside = (down**2 + right**2 <= half**2) if kind else (torch.maximum(down, right) <= half)
            image[:, inside] = torch.rand(3, 1, generator=generator) + 0.5
            table.append([kind, x / SIDE, y / SIDE, 2 * half / SIDE, 2 * half / SIDE])
        return image, torch.tensor(table)


def collate(samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, list[Tensor]]:
    """Return the images of a batch as one tensor, and a list of their tables."""
    images, tables = zip(*samples, strict=True)
    return torch.stack(images), list(tables)


def block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution as detectors have it."""
    layer = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.SiLU())


class Detector(nn.Module):
    """A backbone, a path down from the coarse scale, and a head of boxes and one of scores for each scale."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(block(3, width, 2), block(width, 2 * width, 2))
        self.deep = nn.Sequential(block(2 * width, 4 * width, 2), block(4 * width, 4 * width))
        self.down = block(6 * width, 2 * width)
        widths = (2 * width, 4 * width)
        self.boxes = nn.ModuleList(nn.Conv2d(channels, 4, 1) for channels in widths)
        self.scores = nn.ModuleList(nn.Conv2d(channels, 1 + CLASSES, 1) for channels in widths)

    def forward(self, images: Tensor) -> dict[str, Any]:
        fine = self.stem(images)
        coarse = self.deep(fine)
        fine = self.down(torch.cat([fine, F.interpolate(coarse, scale_factor=2.0)], 1))
        heads = zip(self.boxes, self.scores, (fine, coarse), strict=True)
        return {"scales": [{"boxes": b(x).sigmoid(), "scores": s(x)} for b, s, x in heads]}


def cells(table: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the rows and columns of the cells in which the centres of boxes lie."""
    places = (table[:, 1:3] * size).long().clamp(max=size - 1)
    return places[:, 1], places[:, 0]


def loss(outputs: dict[str, Any], tables: list[Tensor]) -> Tensor:
    """Return the loss of each image: where objects are, which they are, and their boxes, over both scales."""
    losses = []
    for number, table in enumerate(tables):
        total = table.new_zeros(())
        for scale in outputs["scales"]:
            boxes, scores = scale["boxes"][number], scale["scores"][number]
            y, x = cells(table, boxes.shape[-1])
            there = torch.zeros_like(scores[0])
            there[y, x] = 1.0
            total = total + 4 * F.binary_cross_entropy_with_logits(scores[0], there)
            total = total + F.cross_entropy(scores[1:, y, x].T, table[:, 0].long())
            total = total + 4 * (boxes[:, y, x].T - table[:, 1:]).abs().mean()
        losses.append(total)
    return torch.stack(losses)


def missed(outputs: dict[str, Any], tables: list[Tensor]) -> Tensor:
    """Return the share of the objects of each image that the fine scale does not find: another class or none
    in their cell, or a box that covers less than half of both.
    """
    fine, shares = outputs["scales"][0], []
    for number, table in enumerate(tables):
        y, x = cells(table, fine["boxes"].shape[-1])
        found, scores = fine["boxes"][number][:, y, x].T, fine["scores"][number][:, y, x]
        right = (scores[0] > 0) & (scores[1:].argmax(0) == table[:, 0]) & (overlap(found, table[:, 1:]) > 0.5)
        shares.append(1 - right.float().mean())
    return torch.stack(shares)


def overlap(one: Tensor, other: Tensor) -> Tensor:
    """Return intersection over union of boxes ``(n, 4)``, row by row."""
    low = torch.maximum(one[:, :2] - one[:, 2:] / 2, other[:, :2] - other[:, 2:] / 2)
    high = torch.minimum(one[:, :2] + one[:, 2:] / 2, other[:, :2] + other[:, 2:] / 2)
    both = (high - low).clamp(min=0).prod(1)
    return both / (one[:, 2:].prod(1) + other[:, 2:].prod(1) - both)


def main(
    directory: str | Path = "runs/detector", images: int = 600, epochs: int = 30, evaluations: int = 100
) -> None:
    """Train the detector, search for smaller ones, and show what came of it."""
    loader = DataLoader(Shapes(images), batch_size=32, collate_fn=collate)
    search = Search(
        Detector(),
        Loaders(loader, loss=loss, metrics={"missed": missed}),
        objectives=["missed", "macs"],
        constraints=["macs <= 60%"],
        training=Training(epochs=epochs),
        finish=Finish(members=2, epochs=max(1, epochs // 3)),
        directory=directory,
    )
    print(search.run(evaluations=evaluations).table())


if __name__ == "__main__":
    main()
