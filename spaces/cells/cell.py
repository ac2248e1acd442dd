"""A cell as a module: nodes that add up what their edges bring, joined at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spaces.cells.graph import CellPlan
from spaces.cells.operations import FactorizedReduction

Edge = tuple[str, str]


@dataclass(frozen=True)
class Place:
    """Where a cell stands in a network, and what it is given.

    Attributes:
        name: of the module in the network.
        kind: cells of one kind have one genotype.
        inputs: channels of every input, in the order of the graph's inputs.
        outputs: channels that the network expects.
        stride: of edges that leave an input; 2 in a reduction cell.
        halved: which inputs have twice the height and width of the others, and are reduced as they enter.
        residual: whether the cell's output is added to its first input: at first it is zero, so that a
            trained network stays as it is. [O]
    """

    name: str
    kind: str = "cell"
    inputs: tuple[int, ...] = (1, 1)
    outputs: int = 1
    stride: int = 1
    halved: tuple[bool, ...] = ()
    residual: bool = False


def key(edge: Edge) -> str:
    """Return an edge's name among modules and segments."""
    return f"{edge[0]}-{edge[1]}"


def live(plan: CellPlan, edges: Mapping[Edge, object]) -> list[Edge]:
    """Return those of the edges that are on a way to an output, in the plan's order."""
    heard = set(plan.outputs)
    for source, target in reversed(plan.edges):  # sorted by target, so readers of a node come first here
        if target in heard and (source, target) in edges:
            heard.add(source)
    return [edge for edge in plan.edges if edge in edges and edge[1] in heard]


class Cell(nn.Module):
    """Inputs brought to one width, a sum at every node, the outputs concatenated and, where channels do not
    fit, projected.

    Args:
        place: where it stands.
        plan: its graph.
        edges: a module for every edge that is there, ``(batch, width, h, w)`` to ``(batch, width, h', w')``.
            Nodes without a way to an output, and inputs that no edge reads, are left out.
        width: channels of the nodes.
        affine: whether the BatchNorms of the entries learn a scale; not while operations compete. [P] DARTS
    """

    def __init__(
        self, place: Place, plan: CellPlan, edges: Mapping[Edge, nn.Module], width: int, affine: bool = True
    ) -> None:
        super().__init__()
        self.place, self.plan, self.width = place, plan, width
        # what has no way to an output is not made at all, neither edges nor entries nor nodes
        here = live(plan, edges)
        halved = place.halved or (False,) * len(plan.inputs)
        read = {source for source, _ in here}
        self.entries = nn.ModuleDict(
            {
                name: _entry(channels, width, shrinks, affine)
                for name, channels, shrinks in zip(plan.inputs, place.inputs, halved, strict=True)
                if name in read
            }
        )
        self.edges = nn.ModuleDict({key(edge): edges[edge] for edge in here})
        reached = {target for _, target in here}
        self.outputs = tuple(node for node in plan.outputs if node in reached)
        self.exit = _exit(width * len(self.outputs), place)
        self._incoming = [
            (node, [edge for edge in here if edge[1] == node]) for node in plan.nodes if node in reached
        ]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map one tensor ``(batch, channels, h, w)`` an input to ``(batch, place.outputs, h', w')``."""
        given = dict(zip(self.plan.inputs, inputs, strict=True))
        states = {name: entry(given[name]) for name, entry in self.entries.items()}
        for node, edges in self._incoming:
            total = self.edges[key(edges[0])](states[edges[0][0]])
            for edge in edges[1:]:
                total = total + self.edges[key(edge)](states[edge[0]])
            states[node] = total
        joined = (
            torch.cat([states[node] for node in self.outputs], 1)
            if len(self.outputs) > 1
            else states[self.outputs[0]]
        )
        out = self.exit(joined)
        return inputs[0] + out if self.place.residual else out


def _entry(channels: int, width: int, shrinks: bool, affine: bool) -> nn.Module:
    """Return what brings an input to the width of the nodes; where it shrinks, also to their size."""
    if shrinks:
        return FactorizedReduction(channels, width, affine)
    return nn.Sequential(
        nn.ReLU(), nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width, affine=affine)
    )


def _exit(channels: int, place: Place) -> nn.Module:
    """Return what brings the joined nodes to the channels that the network expects."""
    if channels == place.outputs and not place.residual:
        return nn.Identity()
    norm = nn.BatchNorm2d(place.outputs)
    if place.residual:  # at first the cell adds nothing
        nn.init.zeros_(norm.weight)
    return nn.Sequential(nn.Conv2d(channels, place.outputs, 1, bias=False), norm)


class Partial(nn.Module):
    """An operation on the first 1/`share` of the channels; the rest goes by (at stride 2 through a max
    pooling); channels are shuffled.

    Source: PC-DARTS (Xu et al. 2020) [P].
    """

    def __init__(self, operation: nn.Module, share: int, stride: int = 1) -> None:
        super().__init__()
        self.operation, self.share = operation, share
        self.bypass: nn.Module = nn.Identity() if stride == 1 else nn.MaxPool2d(3, stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = x.shape[1] // self.share
        return shuffle(torch.cat([self.operation(x[:, :first]), self.bypass(x[:, first:])], 1), self.share)


class Weighted(nn.Module):
    """An operation times a number that came out of a supernet and stays as it is."""

    weight: Tensor

    def __init__(self, operation: nn.Module, weight: float = 1.0) -> None:
        super().__init__()
        self.operation = operation
        self.register_buffer("weight", torch.tensor(float(weight)))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * self.operation(x)


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of `groups` groups: ``(batch, channels, h, w)`` in any order of memory."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def width_of(place: Place, plan: CellPlan, width: int | None, share: int) -> int:
    """Return the channels of a node: `width`, or as many as make the joined outputs what the network expects;
    a multiple of `share`.
    """
    found = place.outputs // len(plan.outputs) if width is None else width
    return max(share, found // share * share)
