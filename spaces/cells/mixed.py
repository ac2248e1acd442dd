"""A supernet: every edge a mixture of its active operations, weighed by architecture parameters that all
cells of a kind share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spaces.cells.cell import Edge, Place, key, shuffle
from spaces.cells.graph import CellPlan
from spaces.cells.network import CellNetwork
from spaces.cells.operations import NONE, Operations

_SPREAD = 1e-3
"""Standard deviation of the first architecture parameters. [P] DARTS"""


class Architecture(nn.Module):
    """The architecture parameters: an alpha for every active operation of an edge, and a beta for every edge
    of a node. [P] PC-DARTS

    An edge with one operation left has no alpha: there is nothing to learn. How it stood against the others
    then is kept, since edges are still to be chosen by it.

    Args:
        kinds: of cells.
        plan: the graph of all of them.
        operations: names, ``none`` among them or not.
        normalise: whether edges are weighed against each other (edge normalisation); without it each counts
            1.

    Attributes:
        active: ``kind/edge`` -> the operations that are left, ``none`` last.
        settled: ``kind/edge`` -> softmax(alpha) of the operation that alone is left, at the time when the
            others went.
        drawn: ``kind/edge`` -> which of its operations take part in a pass, see :meth:`draw`; an edge that is
            not there has all.
    """

    def __init__(
        self, kinds: tuple[str, ...], plan: CellPlan, operations: Operations, normalise: bool = True
    ) -> None:
        super().__init__()
        self.kinds, self.plan = kinds, plan
        names = (*operations.names, NONE) if operations.has_none else operations.names
        self.active: dict[str, tuple[str, ...]] = {
            f"{kind}/{key(edge)}": names for kind in kinds for edge in plan.edges
        }
        self.alphas = nn.ParameterDict(
            {edge: nn.Parameter(_SPREAD * torch.randn(len(names))) for edge in self.active}
        )
        several = {node: sources for node, sources in plan.incoming.items() if len(sources) > 1 and normalise}
        self.betas = nn.ParameterDict(
            {
                f"{kind}/{node}": nn.Parameter(_SPREAD * torch.randn(len(sources)))
                for kind in kinds
                for node, sources in several.items()
            }
        )
        self.settled: dict[str, float] = {}
        self.drawn: dict[str, tuple[int, ...]] = {}
        self.weights: dict[str, Tensor] = {}
        self.shares: dict[str, Tensor | float] = {}

    def mix(self) -> None:
        """Compute, for the forward pass that comes, the weight of every operation, softmax(alpha), and of
        every edge, softmax(beta).
        """
        self.shares = dict.fromkeys(self.active, 1.0)
        for name, beta in self.betas.items():
            kind, node = name.split("/")
            for source, share in zip(self.plan.incoming[node], beta.softmax(0), strict=True):
                self.shares[f"{kind}/{key((source, node))}"] = share
        for edge in self.active:
            self.weights[edge] = self.alphas[edge].softmax(0) if edge in self.alphas else torch.ones(1)

    def draw(self, number: int | None, first: int | None = None) -> None:
        """Let only so many operations an edge take part in the passes that come, standing for all of them;
        None: all again.

        A pass costs so much less, and the sum of an edge is the same on average. In place of a path of one
        operation (Guo et al. 2020, arXiv 1904.00420) these are a few, mixed as all of them will be. [O]

        Args:
            number: of operations; edges that have no more keep all.
            first: take those from this place on, in a circle; None: draw them with torch's generator.
        """
        self.drawn = {}
        for edge in self.active:
            several = len(self.named(edge))
            if number is not None and number < several:
                order = (
                    torch.randperm(several).tolist()
                    if first is None
                    else [(first + i) % several for i in range(several)]
                )
                self.drawn[edge] = tuple(order[:number])

    @property
    def size(self) -> int:
        """Active operations of all edges, ``none`` included."""
        return sum(len(names) for names in self.active.values())

    def named(self, edge: str) -> tuple[str, ...]:
        """Return the active operations of ``kind/edge`` but ``none``."""
        return tuple(name for name in self.active[edge] if name != NONE)

    def importances(self, edge: str) -> np.ndarray:
        """Return softmax(alpha) over the active operations of ``kind/edge`` but ``none``, float64 of the sum
        1.
        """
        names = self.named(edge)
        if edge not in self.alphas:
            return np.ones(1)
        return self.alphas[edge].detach().cpu().double()[: len(names)].softmax(0).numpy()

    def strengths(self) -> dict[str, float]:
        """Return of every ``kind/edge`` what decides whether it is kept: the largest softmax(alpha) that is
        not ``none``'s, times softmax(beta). [P] PC-DARTS. Of an edge with one operation left that is its
        softmax(alpha) when the others went, or all such edges were equally strong where they are not weighed
        against each other. [O]
        """
        with torch.no_grad():
            self.mix()
        best = {
            edge: float(self.weights[edge][: len(self.named(edge))].max()) for edge in self.active
        } | self.settled
        return {edge: best[edge] * float(self.shares[edge]) for edge in self.active}

    def scales(self) -> dict[str, float]:
        """Return the beta (before softmax) of every ``kind/edge``, 0 of one that is alone at its node; empty
        where none are weighed.
        """
        if not self.betas:
            return {}
        scales = dict.fromkeys(self.active, 0.0)
        for name, beta in self.betas.items():
            kind, node = name.split("/")
            for source, value in zip(self.plan.incoming[node], beta.detach().tolist(), strict=True):
                scales[f"{kind}/{key((source, node))}"] = value
        return scales

    def drop(
        self, edge: str, kept: tuple[str, ...]
    ) -> tuple[nn.Parameter | None, nn.Parameter | None, list[int]]:
        """Leave these operations on ``kind/edge``; with a single one ``none`` goes as well, and the alpha.

        Returns:
            The alpha before, the one now (None: none), and which of its entries stayed.
        """
        before = self.active[edge]
        stay = tuple(name for name in before if name in kept or (name == NONE and len(kept) > 1))
        places = [before.index(name) for name in stay]
        old = self.alphas.get(edge)
        self.active[edge] = stay
        if old is not None and len(stay) == 1:
            self.settled[edge] = float(old.detach().softmax(0)[places[0]])
            del self.alphas[edge]
        elif old is not None:
            self.alphas[edge] = nn.Parameter(old.detach()[places].clone())
        return old, self.alphas.get(edge), places


class MixedEdge(nn.Module):
    """The weighted sum of an edge's active operations, on 1/share of the channels; ``none`` takes its weight
    and gives nothing. [P]
    """

    def __init__(
        self,
        name: str,
        operations: Mapping[str, nn.Module],
        architecture: Architecture,
        share: int,
        stride: int,
    ) -> None:
        super().__init__()
        self.name, self.share = name, share
        self.operations = nn.ModuleDict(operations)
        self.bypass: nn.Module = nn.Identity() if stride == 1 or share == 1 else nn.MaxPool2d(3, stride, 1)
        self._architecture = [architecture]  # a list, so that it is no submodule of every edge

    def forward(self, x: Tensor) -> Tensor:
        architecture = self._architecture[0]
        weights, scale = architecture.weights[self.name], architecture.shares[self.name]
        first = x if self.share == 1 else x[:, : x.shape[1] // self.share]
        # the last weight may be none's
        taking_part = list(zip(weights, self.operations.values(), strict=False))
        if (drawn := architecture.drawn.get(self.name)) is not None:
            factor = len(taking_part) / len(drawn)
            taking_part = [(factor * taking_part[place][0], taking_part[place][1]) for place in drawn]
        total = sum(weight * operation(first) for weight, operation in taking_part)
        assert isinstance(total, Tensor)
        if self.share > 1:
            total = shuffle(torch.cat([total, self.bypass(x[:, x.shape[1] // self.share :])], 1), self.share)
        return scale * total


class Supernet(nn.Module):
    """A network whose cells have all operations on all edges.

    Args:
        network: without cells; they are made here, with weights from torch's generator, BatchNorms without
            scales. [P] DARTS
        operations: that compete.
        normalise: see :class:`Architecture`.
    """

    def __init__(self, network: CellNetwork, operations: Operations, normalise: bool = True) -> None:
        super().__init__()
        kinds = tuple(dict.fromkeys(place.kind for place in network.places))
        self.architecture = Architecture(kinds, network.plan, operations, normalise)
        self.network = network

        def make(place: Place, edge: Edge, width: int, stride: int) -> nn.Module:
            name = f"{place.kind}/{key(edge)}"
            modules = {
                operation: operations.make(operation, width // network.share, stride, network.affine)
                for operation in self.architecture.named(name)
            }
            return MixedEdge(name, modules, self.architecture, network.share, stride)

        network.fill(make)

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        self.architecture.mix()
        return self.network(*inputs, **named)

    def edges(self, name: str) -> list[MixedEdge]:
        """Return the mixed edges of ``kind/edge``, one a cell of the kind."""
        return [
            module
            for module in self.network.modules()
            if isinstance(module, MixedEdge) and module.name == name
        ]

    def weights(self) -> list[nn.Parameter]:
        """Return what is trained besides the architecture."""
        return [parameter for parameter in self.network.parameters() if parameter.requires_grad]
