"""The space of cells: which operation stands on which edge."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spaces.base import Segment, Space
from spaces.calling import Example
from spaces.cells import found, genotype
from spaces.cells.cell import key
from spaces.cells.design import Design
from spaces.cells.genotype import Genotype
from spaces.cells.graph import CellGraph
from spaces.cells.inheritance import compare, inherit, scale
from spaces.cells.network import CellNetwork, arguments
from spaces.cells.operations import DARTS, NONE
from spaces.errors import InputError


class CellSpace(Space):
    """Cells in a network: a locus an edge (and kind of cell) holds its operation, 0 for none.

    Every node keeps `inputs_per_node` of its edges. With `run` the space is what a search of cells left: the
    operations that were still active, and its weights, sliced out of the supernet (with the partial channels
    it had); without it cells begin anew. The arguments from `model` to `freeze` are those of
    :class:`~spaces.cells.design.Design`.

    Args:
        run: folder of a run of :class:`~evaluators.supernet.SupernetSearch` over the same network, graph and
            operations.
        candidate: of that run; null: the one of the lowest loss.

    Raises:
        InputError: of the first that does not fit; a `run` that searched something else.
    """

    dotted_arguments = ("operations",)
    """Arguments that may be dotted names."""

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
        run: str | None = None,
        candidate: int | None = None,
    ) -> None:
        self._setup(
            Design(model, example, graph, operations, at, width, inputs_per_node, freeze), run, candidate
        )

    @classmethod
    def of(cls, design: Design, run: str | None = None, candidate: int | None = None) -> CellSpace:
        """Return the space of a design that is there already."""
        space = cls.__new__(cls)
        space._setup(design, run, candidate)
        return space

    def _setup(self, design: Design, run: str | None, candidate: int | None) -> None:
        self.design = design
        self.found: found.Found | None = None
        self._weights: dict[str, Tensor] = {}
        self._edges = [(kind, edge) for kind in design.kinds for edge in design.plan.edges]
        left: Mapping[str, Sequence[str]] = {}
        if run is not None:
            self.found, self._weights = found.read(run, candidate)
            if not design.is_meant(self.found.design):
                raise InputError(
                    f"space: run: {run} searched another network, graph or set of operations; expected the "
                    f"same as here"
                )
            left = self.found.operations
        self.options = {
            f"{kind}/{key(edge)}": (NONE, *left.get(f"{kind}/{key(edge)}", design.operations.names))
            for kind, edge in self._edges
        }
        """``kind/edge`` -> what its alleles stand for."""
        self.segments = tuple(Segment(name, 1, len(options)) for name, options in self.options.items())

    # -- the contract ----------------------------------------------------------------------------------------

    @property
    def fingerprint(self) -> str:
        held = (
            None
            if self.found is None
            else [self.found.genotype, self.found.operations, self.found.weights, self.found.share]
        )
        text = json.dumps([self.design.fingerprint, held], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @property
    def alleles(self) -> dict[str, tuple[float | int | str, ...]]:
        return dict(self.options)

    @property
    def base(self) -> np.ndarray | None:
        """The cell that the search ended with; None where there was none."""
        return None if self.found is None else self.encode(self.found.genotype)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        genomes = np.zeros((n, self.length), dtype=np.uint8)
        # of a node's edges `count` at random, each with an operation at random
        for (
            loci,
            count,
        ) in self._nodes:
            kept = rng.random((n, len(loci))).argsort(axis=1)[:, :count]
            drawn = rng.integers(1, self.choices[loci], size=(n, len(loci))).astype(np.uint8)
            rows = np.arange(n)[:, None]
            genomes[rows, loci[kept]] = drawn[rows, kept]
        return genomes

    def repair(self, genomes: np.ndarray) -> np.ndarray:
        """Return the nearest valid genomes: of the edges too many at a node the weakest go, of those missing
        the strongest come, with their first operation. Strength is what the search found; without one, edges
        count in their order.
        """
        repaired = np.minimum(genomes, (self.choices - 1).astype(np.uint8))
        for loci, count in self._nodes:
            # the strongest first: of those here the first `count` stay, of those missing the first ones come
            ranked = loci[np.argsort(-self._strengths[loci], kind="stable")]
            here = repaired[:, ranked] > 0
            excess = here & (here.cumsum(axis=1) > count)
            lacking = ~here & (
                (~here).cumsum(axis=1) <= np.maximum(count - here.sum(axis=1, keepdims=True), 0)
            )
            repaired[:, ranked] = np.where(excess, 0, np.where(lacking, 1, repaired[:, ranked]))
        return repaired

    def build(self, genome: np.ndarray) -> CellNetwork:
        chosen = self.genotype(genome)
        if self.found is None:
            return self.design.build(chosen)
        # new weights are overwritten: they must not cost random numbers
        with torch.random.fork_rng(devices=[]):
            network = self.design.build(chosen, self.found.share, affine=False, weighted=True)
        inherit(network, chosen, self._weights, self.found.scales)
        return network

    def difference(self, genome: np.ndarray, compact: nn.Module | None = None) -> float:
        """Return by how much a built network differs from the supernet whose other operations and edges weigh
        nothing, in eval mode.

        Args:
            compact: the network, if its weights were changed since: they are put into the supernet first.
                None: as built.

        Returns:
            The largest difference of outputs over the largest output (at least 1); 0 where nothing is
            inherited.
        """
        if self.found is None:
            return 0.0
        chosen = self.genotype(genome)
        network = self.build(genome) if compact is None else compact
        assert isinstance(network, CellNetwork)
        with torch.random.fork_rng(devices=[]):
            supernet = self.design.supernet(self.found.share, bool(self.found.scales))
        return compare(supernet, network, chosen, self._weights, self.found.operations, self.design.example)

    def describe(self, genome: np.ndarray) -> dict[str, float | int | str]:
        self.check(genome[None])
        return {
            name: options[allele]
            for (name, options), allele in zip(self.options.items(), genome.tolist(), strict=True)
        }

    def canonical(self, genomes: np.ndarray) -> np.ndarray:
        """Return of every genome the first among those whose cells are isomorphic to its own: nodes may
        change places.

        With inherited weights nothing is the same but the same: the weights are those of the place.
        """
        if self.found is not None or not len(genomes):
            return genomes.copy()
        size = len(self.design.plan.edges)
        best = genomes.copy()
        for start in range(0, self.length, size):
            cells = genomes[:, start : start + size]
            for order, lost in self._renamings:
                renamed = np.where(order < 0, 0, cells[:, order]).astype(np.uint8)
                kept = best[:, start : start + size]
                # where they differ for the first time; 0 where they do not
                first = (renamed != kept).argmax(axis=1)
                rows = np.arange(len(cells))
                less = (renamed[rows, first] < kept[rows, first]) & ~(cells[:, lost] > 0).any(axis=1)
                best[less, start : start + size] = renamed[less]
        return best

    # -- cells -----------------------------------------------------------------------------------------------

    def genotype(self, genome: np.ndarray) -> Genotype:
        """Return what stands on the edges; ValueError where a node has another number of inputs than it
        should.
        """
        self.check(genome[None])
        if (self.repair(genome[None])[0] != genome).any():
            raise ValueError(
                f"a node of the cell has another number of inputs than {self.design.inputs_per_node}; "
                f"repair makes it valid"
            )
        cells: Genotype = {kind: {} for kind in self.design.kinds}
        for (kind, edge), options, allele in zip(
            self._edges, self.options.values(), genome.tolist(), strict=True
        ):
            if allele:
                cells[kind][edge] = options[allele]
        return cells

    def write(self, genome: np.ndarray) -> str:
        """Return the genotype as text."""
        return genotype.write(self.genotype(genome))

    def encode(self, text: str) -> np.ndarray:
        """Return the genome ``(length,)`` of a genotype's text.

        Raises:
            InputError: an edge or an operation that is not in this space, or a node with a wrong number of
                inputs.
        """
        cells = genotype.read(text)
        genome = np.zeros(self.length, dtype=np.uint8)
        for kind, edges in cells.items():
            for edge, operation in edges.items():
                name = f"{kind}/{key(edge)}"
                if operation not in self.options.get(name, ()):
                    accepted = (
                        ", ".join(self.options[name][1:])
                        if name in self.options
                        else f"one of the edges {', '.join(self.options)}"
                    )
                    raise InputError(f"genotype: {operation!r} on {name}; expected {accepted}")
                genome[self.slices[name]] = self.options[name].index(operation)
        if (self.repair(genome[None])[0] != genome).any():
            raise InputError(
                f"genotype: {text!r}; expected {self.design.inputs_per_node} inputs at every node (all, "
                f"where there are fewer)"
            )
        return genome

    def made_of(
        self, genome: np.ndarray, model: Mapping[str, Any] | None, space: Mapping[str, Any] | None
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Return the network with its cells; `model` is the one around them."""
        return None if model is None else self.model_spec(genome, model), None

    def model_spec(self, genome: np.ndarray, model: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``class_path`` and ``init_args`` of what a genome builds, for its recipe; `model` are those
        of the network around.
        """
        network, inherited = self.build(genome), self.found is not None
        return self.design.spec(
            dict(model), arguments(network, self.genotype(genome), self.design.operations, inherited)
        )

    # -- how it is done --------------------------------------------------------------------------------------

    @cached_property
    def _nodes(self) -> list[tuple[np.ndarray, int]]:
        """Of every node of every kind: the loci of its edges, and how many of them it keeps."""
        nodes = []
        for kind in self.design.kinds:
            for node in self.design.plan.nodes:
                loci = np.array(
                    [i for i, (k, edge) in enumerate(self._edges) if k == kind and edge[1] == node]
                )
                nodes.append((loci, min(self.design.inputs_per_node, len(loci))))
        return nodes

    @cached_property
    def _strengths(self) -> np.ndarray:
        """Of every edge, ``(length,)``: what the search found, 0 without one."""
        if self.found is None:
            return np.zeros(self.length)
        names = list(self.options)
        shares = scale(self.found.scales, names)
        return np.array([shares[name] * max(self.found.importances[name]) for name in names])

    @cached_property
    def _renamings(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of every symmetry of the graph: for each edge the one whose operation comes to it (-1: none), and
        the edges that go nowhere.
        """
        edges = self.design.plan.edges
        place = {edge: number for number, edge in enumerate(edges)}
        found = []
        for renaming in self.design.plan.symmetries:
            images = [
                place.get((renaming.get(source, source), renaming[target]), -1) for source, target in edges
            ]
            order = np.full(len(edges), -1)
            for number, image in enumerate(images):
                if image >= 0:
                    order[image] = number
            found.append(
                (
                    order,
                    np.array([number for number, image in enumerate(images) if image < 0], dtype=np.int64),
                )
            )
        return found
