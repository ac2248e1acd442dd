"""What a candidate costs when it is sliced, against masks by forward hooks, Torch-Pruning, and the same
shapes built natively.

Each round builds and runs the same few genomes in all four ways, one after the other, so that what else the
machine does falls on all alike; the figures are medians over rounds of the ratios within a round.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch_pruning
from torch import Tensor, nn

from benchmarks import harness
from evaluators.data import Digits
from spaces import ChannelSpace
from spaces.models import ResidualNet

WIDTHS, BLOCKS = (32, 64, 128), 2
BLOCK = 5
"""Candidates in a row, as a worker evaluates them."""


def half(space: ChannelSpace, rng: np.random.Generator) -> np.ndarray:
    """Return a genome ``(length,)`` that keeps a random half of every group."""
    genome = np.zeros(space.length, dtype=np.uint8)
    for segment, part in zip(space.segments, space.slices.values(), strict=True):
        genome[part][rng.permutation(segment.size)[: segment.size // 2]] = 1
    return genome


@contextmanager
def masked(space: ChannelSpace, genome: np.ndarray) -> Iterator[nn.Module]:
    """The full model with the outputs of its layers multiplied by masks: what most search code does."""
    handles = []
    keep = np.append(genome.astype(np.float32), np.float32(1))
    for tap in space.plan.taps:
        mask = torch.from_numpy(keep[tap.loci])
        shaped = mask.reshape(-1, 1, 1) if tap.dim == 1 else mask
        handles.append(
            space.model.get_submodule(tap.module).register_forward_hook(
                lambda _m, _i, output, mask=shaped: output * mask
            )
        )
    try:
        yield space.model
    finally:
        for handle in handles:
            handle.remove()


def torch_pruned(space: ChannelSpace, genome: np.ndarray, example: Tensor) -> nn.Module:
    """A deep copy, pruned to the same channels by Torch-Pruning's dependency graph."""
    model = copy.deepcopy(space.model)
    graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=example)
    for segment, part in space.slices.items():
        removed = np.flatnonzero(genome[part] == 0).tolist()
        layer = model.get_submodule(segment)
        graph.get_pruning_group(layer, torch_pruning.prune_conv_out_channels, idxs=removed).prune()
    return model


def native(genome: np.ndarray, space: ChannelSpace) -> nn.Module:
    """The half-width network as its own constructor makes it."""
    return ResidualNet(tuple(w // 2 for w in WIDTHS), BLOCKS).eval()


def seconds(work: Callable[[], Any]) -> float:
    """Wall clock of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures and settings."""
    rounds, genomes = (12, 60) if quick else (60, 200)
    torch.manual_seed(0)
    data = Digits()
    space = ChannelSpace(ResidualNet(WIDTHS, BLOCKS).eval(), data.example())
    images = torch.cat([inputs for inputs, _ in data.batches("search", 512)])
    rng = np.random.default_rng(0)
    small = native(half(space, rng), space)

    def forward(model: nn.Module) -> None:
        with torch.inference_mode():
            model(images)

    def masks(genome: np.ndarray) -> None:
        with masked(space, genome) as model:
            forward(model)

    ways: dict[str, Callable[[np.ndarray], Any]] = {
        "compact": lambda genome: forward(space.build(genome)),
        "masked": masks,
        "torch_pruning": lambda genome: forward(torch_pruned(space, genome, images[:2])),
        "native": lambda genome: forward(small),
        "slicing": space.build,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        block = [half(space, rng) for _ in range(BLOCK)]
        for name, way in ways.items():
            way(
                half(space, rng)
            )  # a search evaluates one candidate after another: caches hold what the last one left
            spent = seconds(lambda way=way, block=block: [way(genome) for genome in block])
            if turn:  # the first round fills caches
                times[name].append(spent / BLOCK)
    compact = np.array(times["compact"])

    def ratio(name: str, over: np.ndarray = compact) -> float:
        return float(np.median(np.array(times[name]) / over))

    differences = [space.difference(g, (images[:16],)) for g in space.sample(genomes, rng)]
    agreement = torch_pruned_difference(space, half(space, rng), images[:16])
    figures = {
        "compact_vs_masked": ratio("masked"),
        "compact_vs_torch_pruning": ratio("torch_pruning"),
        "compact_vs_native": float(np.median(compact / np.array(times["native"]))),
        "max_difference": max(differences),
        "difference_from_torch_pruning": agreement,
        "milliseconds": {name: harness.spread([1000 * v for v in values]) for name, values in times.items()},
    }
    return figures, {
        "model": f"ResidualNet({WIDTHS}, blocks={BLOCKS})",
        "images": len(images),
        "rounds": rounds,
        "genomes": genomes,
        "threads": torch.get_num_threads(),
    }


def torch_pruned_difference(space: ChannelSpace, genome: np.ndarray, images: Tensor) -> float:
    """Return the largest difference between our compact model and Torch-Pruning's, relative to max(1, largest
    output).
    """
    pruned = torch_pruned(space, genome, images[:2])
    with torch.inference_mode():
        ours, theirs = space.build(genome)(images), pruned(images)
    return float((ours - theirs).abs().max() / max(1.0, theirs.abs().max().item()))


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module="torch_pruning")
    torch.set_num_threads(1)
    harness.main("evaluation", measure)
