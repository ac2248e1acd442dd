"""The usual augmentation of small images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from evaluators.data.base import Data, Inputs, Split
from evaluators.data.task import Task
from spaces.errors import InputError
from spaces.structures import tensors


class Augmented(Data):
    """Other data whose training images are moved and mirrored anew in every epoch.

    An image becomes a crop of its own size out of itself with a border of zeros, and one of two is mirrored
    left to right, as in He et al. 2016 (arXiv 1512.03385, section 4.2 [P]). What is drawn follows from the
    generator that shuffles the training split. Where nothing shuffles (recalibration, a measured training
    loss, the example) the images are as they are, and so are those of all other splits.

    A teacher is asked of every batch, since what it said of an image holds for no crop of it.

    Args:
        data: with one image ``(channels, height, width)`` of floats a sample, and one label or number a
            sample as its target.
        padding: width of the border in pixels: how far an image moves at most. The border is 0 in the units
            of `data`, so the mean colour where these are normalised.
        flip: whether images are mirrored; not where left and right mean something, as with digits.

    Raises:
        InputError: a padding below 0, or data of another kind.
    """

    def __init__(self, data: Data, padding: int = 4, flip: bool = True) -> None:
        if padding < 0:
            raise InputError(f"data: padding {padding}; expected at least 0 pixels")
        inputs, targets = next(data.batches("train", 2))
        if (
            not isinstance(inputs, Tensor)
            or inputs.ndim != 4
            or not inputs.is_floating_point()
            or not isinstance(targets, Tensor)
            or targets.ndim != 1
        ):
            first, second = ([tuple(x.shape[1:]) for x in tensors(part)] for part in (inputs, targets))
            found = f"inputs {', '.join(map(str, first))} and targets {', '.join(map(str, second))} a sample"
            raise InputError(
                f"data: Augmented of {type(data).__name__}, which has {found}; expected an image of floats "
                f"(channels, height, width) and "
                "one label or number"
            )
        self.data, self.padding, self.flip = data, padding, flip

    def batches(
        self, split: Split, size: int, generator: torch.Generator | None = None
    ) -> Iterator[tuple[Inputs, Tensor]]:
        for inputs, targets in self.data.batches(split, size, generator):
            if split == "train" and generator is not None:
                assert isinstance(inputs, Tensor)
                inputs = moved(inputs, self.padding, self.flip, generator)
            yield inputs, targets

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.data.loss(outputs, targets)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return self.data.metrics(outputs, targets)

    @property
    def metric_names(self) -> tuple[str, ...]:
        return self.data.metric_names

    @property
    def split_metrics(self) -> Mapping[str, Callable[[Any, Any], float]]:  # type: ignore[override]
        """Those of the data."""
        return self.data.split_metrics

    @property
    def task(self) -> Task | None:  # type: ignore[override]
        """What is learned, where the data say so."""
        return self.data.task

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(
            f"augmented {self.data.fingerprint} {self.padding} {self.flip}".encode()
        ).hexdigest()[:32]

    def cast(self, dtype: torch.dtype) -> Augmented:
        """Return the data cast, augmented likewise."""
        cast = self.data.cast(dtype)
        return self if cast is self.data else Augmented(cast, self.padding, self.flip)

    def size(self, split: Split) -> int:
        return self.data.size(split)

    def validate(self) -> None:
        self.data.validate()


def moved(images: Tensor, padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Return a random crop of each image ``(batch, channels, height, width)`` with a border of zeros, about
    half of them mirrored.

    Args:
        padding: width of the border.
        flip: whether any are mirrored.
        generator: on the CPU; the same numbers are drawn for images of any kind.
    """
    n, channels, height, width = images.shape
    corners = torch.randint(2 * padding + 1, (2, n, 1), generator=generator)
    rows, columns = corners[0] + torch.arange(height), corners[1] + torch.arange(width)
    if flip:
        columns = torch.where(torch.randint(2, (n, 1), generator=generator) == 1, columns.flip(1), columns)
    # gather is 5 x faster than indexing
    places = (rows[:, :, None] * (width + 2 * padding) + columns[:, None]).to(images.device).flatten(1)
    bordered = F.pad(images, (padding,) * 4).flatten(2)
    return bordered.gather(2, places[:, None].expand(n, channels, -1)).reshape(images.shape)
