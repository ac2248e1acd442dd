"""A network with its cells: what a genotype builds, a plain module that a recipe can make again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from spaces.cells import genotype as text
from spaces.cells.cell import Cell, Edge, Partial, Place, Weighted, width_of
from spaces.cells.genotype import Genotype
from spaces.cells.graph import CellPlan
from spaces.cells.insertion import SOCKETS, open_sockets
from spaces.cells.operations import DARTS, Operations
from spaces.errors import InputError

MakeEdge = Callable[[Place, Edge, int, int], nn.Module]
"""``make(place, edge, width, stride)``: the module of one edge."""


class CellNetwork(nn.Module):
    """A network whose places hold cells; ``model`` is the very module given, changed in place.

    All arguments but the model are plain data, so that the recipe of an exported model can say them.

    Args:
        model: the network.
        genotype: what stands on the edges, as :func:`spaces.cells.genotype.write` says it; empty: no cells
            yet.
        places: where cells stand, fields of :class:`Place` each.
        plan: fields of the :class:`CellPlan` of the cell's graph.
        operations: names and class paths.
        width: channels of a node; null: as the place asks.
        share: operations see 1/share of the channels, as in PC-DARTS.
        affine: whether BatchNorms in the cells learn scales.
        weighted: whether edges carry a fixed weight out of a supernet.
        freeze: whether the network around the cells stays as it is: its parameters do not train, its
            BatchNorm keeps its statistics.
    """

    dotted_arguments = ("operations",)
    """Arguments that may be dotted names."""

    def __init__(
        self,
        model: nn.Module,
        genotype: str = "",
        places: Sequence[Mapping[str, Any]] = (),
        plan: Mapping[str, Any] | None = None,
        operations: Sequence[str] = DARTS,
        width: int | None = None,
        share: int = 1,
        affine: bool = True,
        weighted: bool = False,
        freeze: bool = False,
    ) -> None:
        super().__init__()
        self.places = tuple(
            Place(**{name: _tuple(value) for name, value in place.items()}) for place in places
        )
        self.plan = CellPlan(**{name: _tuple(value) for name, value in (plan or {}).items()})
        self.width, self.share, self.affine, self.freeze = width, share, affine, freeze
        self.model = model
        open_sockets(model, [place.name for place in self.places], len(self.plan.inputs))
        model.requires_grad_(not freeze)
        for module in model.modules():
            if freeze and isinstance(module, _BatchNorm):
                module.fixed = True  # type: ignore[assignment]  # no recalibration either
        if genotype:
            self.implant(text.read(genotype), Operations(operations), weighted)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self.model(*inputs, **named)

    @property
    def cells(self) -> dict[str, Cell]:
        """The cells by the names of their places, as far as there are any."""
        found = {place.name: self.model.get_submodule(place.name).cell for place in self.places}
        return {name: cell for name, cell in found.items() if isinstance(cell, Cell)}

    def implant(self, genotype: Genotype, operations: Operations, weighted: bool = False) -> None:
        """Put a new cell of one operation an edge into every place, instead of what is there.

        Raises:
            InputError: a kind of cell, an edge or an operation that there is not.
        """
        for place in self.places:
            edges = genotype.get(place.kind)
            if not edges:
                raise InputError(
                    f"genotype: nothing for the kind {place.kind!r}; there is "
                    f"{', '.join(genotype) or 'nothing'}"
                )
            for edge, name in edges.items():
                if edge not in self.plan.edges or name not in operations.makers:
                    known = ", ".join(operations.names)
                    raise InputError(
                        f"genotype: {place.kind} {edge[1]}<{edge[0]}:{name}; expected an edge of the graph "
                        f"and one of {known}"
                    )

        def make(place: Place, edge: Edge, width: int, stride: int) -> nn.Module:
            module = operations.make(genotype[place.kind][edge], width // self.share, stride, self.affine)
            if self.share > 1:
                module = Partial(module, self.share, stride)
            return Weighted(module) if weighted else module

        self.fill(make, {kind: list(edges) for kind, edges in genotype.items()})

    def fill(self, make: MakeEdge, edges: Mapping[str, Sequence[Edge]] | None = None) -> None:
        """Put a new cell into every place whose edges `make` makes; `edges` are those of each kind, None: all
        of the graph.
        """
        for place in self.places:
            width = width_of(place, self.plan, self.width, self.share)
            here = self.plan.edges if edges is None else edges[place.kind]
            strides = {
                edge: place.stride if edge[0] in self.plan.inputs else 1
                for edge in self.plan.edges
                if edge in here
            }
            modules = {edge: make(place, edge, width, stride) for edge, stride in strides.items()}
            socket = self.model.get_submodule(place.name)
            assert isinstance(socket, SOCKETS)
            socket.cell = Cell(place, self.plan, modules, width, self.affine).train(socket.training)


def arguments(
    network: CellNetwork, genotype: Genotype, operations: Operations, weighted: bool
) -> dict[str, Any]:
    """Return what makes the network again, but for the model: plain data for JSON."""
    return {
        "genotype": text.write(genotype),
        "places": [asdict(place) for place in network.places],
        "plan": asdict(network.plan),
        "operations": list(operations.paths),
        "width": network.width,
        "share": network.share,
        "affine": network.affine,
        "weighted": weighted,
        "freeze": network.freeze,
    }


def _tuple(value: Any) -> Any:
    return tuple(_tuple(item) for item in value) if isinstance(value, list | tuple) else value
