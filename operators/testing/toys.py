"""Small things to try operators on."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from spaces.base import Segment, Space
from spaces.channels.plan import AxisSlice, Group, SlicePlan, Tap


class ToySpace(Space):
    """Keep bits beside other choices; at least one locus of every segment of keep bits stays."""

    def __init__(
        self,
        segments: tuple[Segment, ...] = (Segment("wide", 24), Segment("depth", 3, 5), Segment("narrow", 8)),
    ) -> None:
        self.segments = segments

    @property
    def fingerprint(self) -> str:
        return f"toy {[(s.name, s.size, s.choices) for s in self.segments]}"

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self.repair(rng.integers(0, self.choices, size=(n, self.length)).astype(np.uint8))

    def repair(self, genomes: np.ndarray) -> np.ndarray:
        genomes = np.minimum(genomes, self.choices - 1).astype(np.uint8)
        for segment, part in zip(self.segments, self.slices.values(), strict=True):
            if segment.choices == 2:
                genomes[genomes[:, part].sum(axis=1) == 0, part.start] = 1
        return genomes

    def build(self, genome: np.ndarray) -> nn.Module:
        return nn.Identity()

    def describe(self, genome: np.ndarray) -> dict[str, float | int | str]:
        return {name: float(genome[part].mean()) for name, part in self.slices.items()}


class ToyNet(nn.Module):
    """Convolution, BatchNorm, ReLU, mean over positions, linear: one group of channels, tapped behind the
    BatchNorm.
    """

    def __init__(self, channels: int = 6, classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, 2, height, width)`` to logits ``(batch, classes)``."""
        return self.head(torch.relu_(self.norm(self.conv(x))).mean(dim=(2, 3)))


def toy_plan(channels: int = 6) -> SlicePlan:
    """Return the slice plan of a :class:`ToyNet`, made by hand: enough of it for criteria."""
    loci = np.arange(channels)
    axes = (
        AxisSlice("conv.weight", 0, loci, "out"),
        *(
            AxisSlice(f"norm.{name}", 0, loci, "own")
            for name in ("weight", "bias", "running_mean", "running_var")
        ),
        AxisSlice("head.weight", 1, loci, "in"),
    )
    groups = (Group("conv", channels, tuple(f"{axis.tensor}[{axis.dim}]" for axis in axes)),)
    return SlicePlan((Segment("conv", channels),), axes, (), (Tap("norm", 1, loci),), (), (), groups, ())


def toy_batches(
    batches: int = 2, size: int = 8, classes: int = 3, seed: int = 0
) -> list[tuple[Tensor, Tensor]]:
    """Return batches that a :class:`ToyNet` takes."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(batches, size, 2, 5, 5, generator=generator)
    return list(zip(images, torch.randint(classes, (batches, size), generator=generator), strict=True))


@contextmanager
def global_generators_untouched() -> Iterator[None]:
    """Fail where the block draws from the global generators of python, numpy or torch."""

    def states() -> tuple[bytes, bytes, bytes]:
        return (
            pickle.dumps(random.getstate()),
            pickle.dumps(np.random.get_state()),  # noqa: NPY002
            torch.get_rng_state().numpy().tobytes(),
        )

    before = states()
    yield
    assert states() == before, "a global random generator was drawn from; use the generator that is given"


def assert_valid(space: Space, genomes: np.ndarray, shape: tuple[int, ...]) -> None:
    """Fail unless these are genomes that the space accepts as they are."""
    assert genomes.shape == shape
    assert genomes.dtype == np.uint8
    assert (genomes < space.choices).all()
    assert (space.repair(genomes) == genomes).all()
