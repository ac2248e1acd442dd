"""What a search of cells is about: the network, the graph of the cell, the operations, and where cells go."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from torch import nn

from spaces.calling import Example
from spaces.cells.genotype import Genotype
from spaces.cells.graph import CellGraph, CellPlan, DenseGraph
from spaces.cells.insertion import find_places
from spaces.cells.mixed import Supernet
from spaces.cells.network import CellNetwork
from spaces.cells.operations import DARTS, Operations
from spaces.errors import InputError, require
from spaces.names import public_name, with_former


class Design:
    """Everything that spaces of cells share, checked.

    Args:
        model: the network around the cells. It stays as it is; what is built has copies of it. One whose
            class says ``hollow = True`` (:class:`CellStack`) is nothing without its cells: its copies get new
            weights, and train.
        example: arguments of one forward call.
        graph: of the cell; None: :class:`DenseGraph`, with as many inputs as the places give.
        operations: names and class paths that may stand on an edge.
        at: names of the places; None: insertion points and MONAI's skip connections.
        width: channels of a node; None: so many that the joined outputs are what the place asks for.
        inputs_per_node: edges that a node keeps; where fewer lead to it, all of them. [P] DARTS: 2
        freeze: whether the network around the cells keeps its weights; None: unless it is hollow.

    Raises:
        InputError: of the first that does not fit.
    """

    def __init__(
        self,
        model: nn.Module,
        example: Example,
        graph: CellGraph | None = None,
        operations: Sequence[str] = DARTS,
        at: Sequence[str] | None = None,
        width: int | None = None,
        inputs_per_node: int = 2,
        freeze: bool | None = None,
    ) -> None:
        require(
            "model", (isinstance(model, nn.Module), f"a {type(model).__name__}; expected a torch.nn.Module")
        )
        require(
            "space",
            (inputs_per_node >= 1, f"inputs_per_node {inputs_per_node}; expected at least 1"),
            (width is None or width >= 1, f"width {width}; expected at least 1 or null"),
        )
        self.host, self.example = model, example
        self.hollow = bool(getattr(type(model), "hollow", False))
        self.freeze = not self.hollow if freeze is None else freeze
        self.width, self.inputs_per_node = width, inputs_per_node
        self.plan = CellPlan.of(graph or DenseGraph())
        self.places = find_places(model, at, len(self.plan.inputs), example)
        self.kinds = tuple(dict.fromkeys(place.kind for place in self.places))
        self.operations = Operations(operations, sorted({1, *(place.stride for place in self.places)}))

    @property
    def fingerprint(self) -> str:
        """Of the network's structure, the graph, the operations, and what a node keeps; its weights are not
        part of it.
        """
        parts = [
            public_name(type(self.host)),
            repr(self.host),
            asdict(self.plan),
            [asdict(place) for place in self.places],
            list(self.operations.paths),
            [self.width, self.inputs_per_node, self.freeze],
        ]
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()

    def is_meant(self, fingerprint: str) -> bool:
        """Whether a fingerprint that was written down, perhaps in format 1, is of this design."""
        return fingerprint in with_former(lambda: self.fingerprint)

    def network(self, share: int = 1, affine: bool = True) -> CellNetwork:
        """Return a copy of the network, without cells yet; a hollow one with new weights from torch's
        generator.

        Raises:
            InputError: the share of partial channels does not leave a node one.
        """
        host = copy.deepcopy(self.host)
        if self.hollow:
            for module in host.modules():
                if callable(reset := getattr(module, "reset_parameters", None)):
                    reset()
        places, plan = [asdict(place) for place in self.places], asdict(self.plan)
        if self.width is not None and self.width % share:
            raise InputError(
                f"space: width {self.width}; expected a multiple of {share}, the share of partial channels"
            )
        return CellNetwork(
            host, "", places, plan, self.operations.paths, self.width, share, affine, False, self.freeze
        )

    def build(
        self, genotype: Genotype, share: int = 1, affine: bool = True, weighted: bool = False
    ) -> CellNetwork:
        """Return a network whose cells have one operation an edge."""
        network = self.network(share, affine)
        network.implant(genotype, self.operations, weighted)
        return network

    def supernet(self, share: int = 1, normalise: bool = True) -> Supernet:
        """Return a network whose cells have all operations, ``share`` and ``normalise`` as in PC-DARTS."""
        return Supernet(self.network(share, affine=False), self.operations, normalise)

    def discretise(self, strengths: dict[str, float], best: dict[str, str]) -> Genotype:
        """Return the cell that a search ends with: of every node the strongest edges, of every edge the best
        operation. [P] DARTS

        Args:
            strengths: of every ``kind/edge``.
            best: operation of every ``kind/edge``.
        """
        genotype: Genotype = {}
        for kind in self.kinds:
            cell = genotype.setdefault(kind, {})
            for node, sources in self.plan.incoming.items():
                order = sorted(
                    range(len(sources)), key=lambda i: (-strengths[f"{kind}/{sources[i]}-{node}"], i)
                )
                for i in sorted(order[: self.inputs_per_node]):
                    cell[sources[i], node] = best[f"{kind}/{sources[i]}-{node}"]
        return genotype

    def spec(self, model: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
        """Return ``class_path`` and ``init_args`` of a network that was built of a genotype, for
        its recipe.
        """
        return {"class_path": "spaces.cells.CellNetwork", "init_args": {"model": model, **arguments}}
