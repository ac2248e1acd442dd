"""What can be pruned of the zoo, how long tracing and rules take, and whether Torch-Pruning couples the same
channels.

    python -m benchmarks.coupling --quick --json F

- ``zoo_models``, ``zoo_prunable``: models, and those of which nothing is frozen that is not documented
  (``tests/zoo/cases.py``).
- ``share_of_parameters_prunable``: per model, of all parameters those in tensors that some group shortens.
- ``seconds_per_1000_ops``: tracing, rules and plan of a residual network of about 1,000 operations, per
  1,000; processor time, one thread. Verification by running, which grows with the number of groups, is
  measured separately as ``seconds_to_verify``.
- ``memory_over_model``: growth of the peak memory by tracing, rules and plan of such a network, over the
  bytes of its parameters; in a process of its own that has traced a small model before.
- ``oracle_agreement``: of the channels that both prune (up to four a layer), the share whose coupled sets are
  the same (convolutions and linear layers); where they differ, ``VERDICTS`` says why.
"""

from __future__ import annotations

import multiprocessing
import resource
import signal
import time
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from benchmarks import harness
from spaces import ChannelSpace
from spaces.channels import space as module
from tests.zoo.cases import ZOO, example_of, model_of

Coupled = frozenset[tuple[str, str, int]]
"""Layer, ``in`` or ``out``, position."""

PATIENCE = 10
PROBES = 4
"""So many channels of every layer are compared."""

GRID = (
    "ours: features of a grid (heads, groups, equal parts) go as whole rows or columns; one by one the "
    "model would no longer run"
)
ONE = "both: theirs takes nn.MultiheadAttention for one layer and does not list its output projection"
VERDICTS = {
    "TorchAttention": ONE,
    "TorchEncoder": ONE,
    "TorchDecoder": ONE,
    "Perceiver": ONE,
    "ViT": GRID,
    "SeparateViT": GRID,
    "HeadwiseGPT": GRID,
    "ShuffleNet": GRID,
    "ShuffleNetV2": GRID,
    "Conditioned": GRID + "; a gated linear unit halves what it is given",
    "ResNeXt": "both: any channel of each group, as many of each, would do; here it is the same place of "
    "each group, or a whole group",
    "Normalised": "both: as ResNeXt, for the groups of GroupNorm",
    "PaddedResNet": "ours: the padding shifts the channels by four",
    "SuperResolution": "ours: PixelShuffle makes one channel of four neighbours",
    "Pieces": "ours: theirs names positions 18 and 36 of a layer with 12 channels (their issues 168, 277, "
    "393)",
    "Mixer": "ours: tokens and channels are different axes, though 16 of each; theirs ties them",
    "NumberedViT": GRID + "; the head reads every token, theirs cuts its inputs for the first one only",
    "CapsuleNet": GRID,
    "Conformer": GRID,
    "Decoder": GRID,
    "GPT": GRID,
    "Swin": GRID,
    "Branches": "ours: the first eight channels of the stem go to a, which theirs takes from b",
    "AttentionUNet": "ours: a gate of one channel scales all; theirs ties that channel to the first of them",
    "WaveNet": "both: the last residual convolution leads nowhere; ours keeps it as wide as what it is "
    "added to, so that forward runs",
    "LinearAttention": "ours: what an einsum sums over is not what it gives; theirs ties both",
}
"""Why the sets of a model differ, and which of the two are right."""


class Deep(nn.Module):
    """Residual blocks of convolution, normalisation and activation, for the clock."""

    def __init__(self, blocks: int, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1),
            )
            for _ in range(blocks)
        )
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = torch.relu(x + block(x))
        return self.head(x.mean((2, 3)))


def prunable_share(space: ChannelSpace) -> float:
    """Return the share of the parameters that lie in tensors which some group shortens."""
    touched = {axis.tensor for axis in space.plan.axes}
    sizes = {name: p.numel() for name, p in space.model.named_parameters()}
    return sum(size for name, size in sizes.items() if name in touched) / sum(sizes.values())


def clock(blocks: int) -> dict[str, float]:
    """Return what tracing with rules, and verifying, cost for a model of 6 operations a block."""
    model, example = Deep(blocks).eval(), torch.randn(2, 3, 8, 8)
    module.VERIFY = False
    start = time.process_time()
    space = ChannelSpace(model, example)
    planned = time.process_time() - start
    module.VERIFY = True
    operations = sum(node.op == "call_function" for node in space._trace.graph.graph.nodes)
    start = time.process_time()
    ChannelSpace(model, example)
    return {
        "operations": operations,
        "seconds_per_1000_ops": planned * 1000 / operations,
        "seconds_to_verify": time.process_time() - start - planned,
    }


def memory(blocks: int, width: int = 128) -> float:
    """Return by how many times the size of a model the peak memory of this process grows while it
    is traced.
    """
    torch.set_num_threads(1)
    module.VERIFY = False
    ChannelSpace(Deep(2).eval(), torch.randn(2, 3, 8, 8))
    model = Deep(blocks, width).eval()
    size = sum(p.nbytes for p in model.parameters())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ChannelSpace(model, torch.randn(2, 3, 8, 8))
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / size


def ours(space: ChannelSpace) -> dict[tuple[str, int], Coupled]:
    """Return what goes with every output channel of every convolution and linear layer that can go."""
    members: dict[int, set[tuple[str, str, int]]] = defaultdict(set)
    of_channel: dict[tuple[str, int], list[int]] = defaultdict(list)
    layers = {
        name: layer for name, layer in space.model.named_modules() if isinstance(layer, nn.Linear | _ConvNd)
    }
    for axis in space.plan.axes:
        name, _, kind = axis.tensor.rpartition(".")
        if kind != "weight" or name not in layers or axis.dim > 1:
            continue
        side = "out" if (axis.dim == 0) != isinstance(layers[name], _ConvTransposeNd) else "in"
        for position, locus in enumerate(axis.loci.tolist()):
            if locus >= 0:
                members[locus].add((name, side, position))
                if side == "out":
                    of_channel[name, position].append(locus)
    return {
        channel: frozenset().union(*(members[locus] for locus in loci))
        for channel, loci in of_channel.items()
    }


class Late(BaseException):
    """Not an Exception, which the other library may catch."""


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise :class:`Late` in what takes longer."""

    def ring(*_: Any) -> None:
        raise Late

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def probes(channels: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the first, the last, and those between of every layer."""
    positions: dict[str, list[int]] = defaultdict(list)
    for name, position in channels:
        positions[name].append(position)
    return [
        (name, p)
        for name, where in positions.items()
        for p in sorted({where[i * (len(where) - 1) // (PROBES - 1)] for i in range(PROBES)})
    ]


def theirs(
    space: ChannelSpace, channels: list[tuple[str, int]]
) -> Iterator[tuple[tuple[str, int], Coupled | None]]:
    """Yield what Torch-Pruning removes with each channel, None where it refuses."""
    import torch_pruning as tp

    model = space.model
    names = {layer: name for name, layer in model.named_modules()}
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=space.example, verbose=False)
    for name, position in channels:
        layer: Any = model.get_submodule(name)
        try:
            group = graph.get_pruning_group(
                layer, graph.get_pruner_of_module(layer).prune_out_channels, idxs=[position]
            )
        except Exception:
            yield (name, position), None
            continue
        found = set()
        for dependency, positions in group:
            target = dependency.target.module
            if target in names and isinstance(target, nn.Linear | _ConvNd):
                depthwise = isinstance(target, _ConvNd) and target.groups == target.in_channels > 1
                side = "out" if depthwise or graph.is_out_channel_pruning_fn(dependency.handler) else "in"
                found |= {(names[target], side, int(p)) for p in positions}
        yield (name, position), frozenset(found)


def oracle(space: ChannelSpace, patience: int = PATIENCE) -> dict[str, Any]:
    """Compare every channel that can go with what Torch-Pruning says of it."""
    mine = ours(space)
    try:
        with warnings.catch_warnings(), limited(patience):
            warnings.simplefilter("ignore")
            found = dict(theirs(space, probes(mine)))
    except Late:
        return {"refused": f"its graph is not built within {patience} s"}
    except Exception as error:
        return {
            "refused": f"{type(error).__name__}: {str(error).splitlines()[0][:100] if str(error) else ''}"
        }
    both = {channel: coupled for channel, coupled in found.items() if coupled is not None}
    differing = [channel for channel, coupled in both.items() if mine[channel] != coupled]
    row: dict[str, Any] = {"channels": len(both), "same": len(both) - len(differing)}
    if differing:
        name, position = differing[0]
        row["example"] = {
            "channel": f"{name}[{position}]",
            "only_here": _in_words(mine[differing[0]] - both[differing[0]]),
            "only_there": _in_words(both[differing[0]] - mine[differing[0]]),
        }
    return row


def _in_words(coupled: frozenset[tuple[str, str, int]]) -> list[str]:
    positions: dict[tuple[str, str], list[int]] = defaultdict(list)
    for name, side, position in sorted(coupled):
        positions[name, side].append(position)
    return [f"{name} {side} {where[:8]}" for (name, side), where in positions.items()][:6]


def agreement(oracles: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return how far our coupling and that of Torch-Pruning agree over all models that both can take.

    Args:
        oracles: what :func:`oracle` returns, by model.
    """
    compared = {name: row for name, row in oracles.items() if "same" in row}
    differing = {name for name, row in compared.items() if row["same"] < row["channels"]}
    same, channels = (sum(row[key] for row in compared.values()) for key in ("same", "channels"))
    return {
        "oracle_models": len(compared),
        "oracle_agreement": same / channels,
        "oracle_unexplained": sorted(differing - {*VERDICTS}),
        "oracle": {
            name: row | ({"verdict": VERDICTS[name]} if name in differing & {*VERDICTS} else {})
            for name, row in oracles.items()
        },
    }


def measure(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures and settings."""
    torch.manual_seed(0)
    shares, refused, oracles = {}, {}, {}
    for name in ZOO:
        space = ChannelSpace(model_of(name), example_of(name), **ZOO[name].options)
        shares[name], refused[name], oracles[name] = (
            prunable_share(space),
            bool(space._refused),
            oracle(space, 2 if quick else PATIENCE),
        )
    blocks = 40 if quick else 160
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        grown = pool.apply(memory, (blocks,))
    documented = {name: case.frozen for name, case in ZOO.items() if case.frozen}
    return {
        "zoo_models": len(ZOO),
        "zoo_prunable": sum(not refused[name] or bool(ZOO[name].frozen) for name in ZOO),
        "share_of_parameters_prunable": shares,
        "prunable_share_median": sorted(shares.values())[len(shares) // 2],
        **clock(blocks),
        "memory_over_model": grown,
        **agreement(oracles),
    }, {
        "clock": f"{blocks} residual blocks",
        "threads": torch.get_num_threads(),
        "documented": documented,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    harness.main("coupling", measure)
