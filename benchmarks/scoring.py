"""Candidates scored by their error on one batch that stays on a device, in several ways."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from benchmarks import harness
from evaluators import Arrays, Data, Digits
from spaces import ChannelSpace
from spaces.models import ResidualNet

Way = Callable[[np.ndarray], Sequence[float]]
"""Returns the errors of candidates, ``(n, length)``."""


@dataclass(frozen=True)
class Scoring:
    """What candidates are scored by: their error on images that stay on a device."""

    space: ChannelSpace
    images: Tensor
    targets: Tensor

    def on(self, device: str) -> Scoring:
        """Return it on a device."""
        return replace(self, images=self.images.to(device), targets=self.targets.to(device))

    def model(self, genome: np.ndarray) -> nn.Module:
        """Return a candidate on the device."""
        return self.space.build(genome).to(self.images.device)

    def error(self, logits: Tensor) -> Tensor:
        """Return the share of images that logits ``(..., n, classes)`` have wrong."""
        return (logits.argmax(-1) != self.targets).float().mean(-1)

    @torch.inference_mode()
    def one_by_one(self, genomes: np.ndarray) -> list[float]:
        """Wait for each error before the next candidate is built."""
        return [float(self.error(self.model(genome)(self.images))) for genome in genomes]

    @torch.inference_mode()
    def streams(self, genomes: np.ndarray, count: int) -> list[float]:
        """Wait for no error before all are on their way, on so many streams in turn."""
        streams = [torch.cuda.Stream() if self.images.is_cuda else None for _ in range(count)]
        waiting = []
        for i, genome in enumerate(genomes):
            stream = streams[i % count]
            with torch.cuda.stream(stream) if stream is not None else nullcontext():
                waiting.append(self.error(self.model(genome)(self.images)))
        for stream in filter(None, streams):
            stream.synchronize()
        return [float(error) for error in waiting]

    @torch.no_grad()
    def grouped(self, genomes: np.ndarray) -> list[float]:
        """Compute candidates of the same shapes in one call."""
        found = np.empty(len(genomes))
        alike: dict[tuple[int, ...], list[int]] = {}
        for i, genome in enumerate(genomes):
            kept = tuple(int(genome[part].sum()) for part in self.space.slices.values())
            alike.setdefault(kept, []).append(i)
        for places in alike.values():
            models = [self.model(genomes[i]) for i in places]

            def called(state: Any, model: nn.Module = models[0]) -> Any:
                return functional_call(model, state, (self.images,))

            found[places] = self.error(vmap(called)(stack_module_state(models))).cpu().numpy()
        return found.tolist()

    @torch.inference_mode()
    def half(self, genomes: np.ndarray) -> list[float]:
        """Compute one by one in bfloat16."""
        images = self.images.bfloat16()
        return [float(self.error(self.model(genome).bfloat16()(images))) for genome in genomes]


def noise() -> Data:
    """Return 1,024 images of noise a split, of three channels of 32 x 32."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((4096, 3, 32, 32), dtype=np.float32)
    shares = dict.fromkeys(("train", "calibration", "search", "test"), 0.25)
    return Arrays(images, rng.integers(0, 10, 4096), shares=shares)  # type: ignore[arg-type]


SCORED: dict[str, tuple[Callable[[], nn.Module], Callable[[], Data]]] = {
    "small": (ResidualNet, Digits),
    "large": (lambda: ResidualNet((64, 128, 256), blocks=2, inputs=3), noise),
}


def population(space: ChannelSpace, shapes: int, members: int, seed: int = 0) -> np.ndarray:
    """Return genomes ``(shapes * members, length)``, of each shape so many that keep other channels."""
    rng = np.random.default_rng(seed)
    genomes = np.zeros((shapes, members, space.length), dtype=np.uint8)
    for shape in genomes:
        for segment, part in zip(space.segments, space.slices.values(), strict=True):
            kept = rng.integers(max(1, segment.size // 4), segment.size + 1)
            for genome in shape:
                genome[part][rng.permutation(segment.size)[:kept]] = 1
    return genomes.reshape(-1, space.length)


def rates(ways: Mapping[str, Way], genomes: np.ndarray, seconds: float) -> dict[str, Any]:
    """Return candidates a second of each way, over the first one's, and the largest difference of an error
    from the first one's; of a way that fails why. Rounds over all ways for so many seconds, one at least.
    """
    figures: dict[str, Any] = {}
    errors: dict[str, np.ndarray] = {}
    for name, way in ways.items():  # the first call loads kernels
        try:
            errors[name] = np.asarray(way(genomes))
        except Exception as error:  # of one way, whatever it is: the others count
            figures[name] = {"failed": harness.last_line(f"{type(error).__name__}: {error}")}
    if not errors:
        return figures
    took: dict[str, list[float]] = {name: [] for name in errors}
    end = time.monotonic() + seconds
    while not all(took.values()) or time.monotonic() < end:
        for name, measured in took.items():
            began = time.perf_counter()
            ways[name](genomes)
            measured.append(time.perf_counter() - began)
    first = next(iter(took))
    for name, measured in took.items():
        figures[name] = {
            "per_second": harness.spread(len(genomes) / np.array(measured)),
            "over_first": float(np.median(np.divide(took[first], measured))),
            "differs_by": float(np.abs(errors[name] - errors[first]).max()),
        }
    return figures
