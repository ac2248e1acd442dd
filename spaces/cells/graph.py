"""The graph of a cell: which node reads which."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import TYPE_CHECKING, Any

from spaces.errors import InputError, require
from spaces.lazy import LazyModule
from spaces.names import renamed

if TYPE_CHECKING:
    import networkx as nx
else:
    nx = LazyModule("networkx")

_NAME = re.compile(r"\w+")


class CellGraph(ABC):
    """A directed acyclic graph: sources are the inputs of the cell, every other node adds up what comes in
    over its edges.

    You write :meth:`graph`. A node with the attribute ``input=True`` is an input; without any such attribute
    all nodes that no edge leads to are. The outputs of the cell are the nodes with ``output=True``, without
    any such attribute all that are no inputs; they are joined by concatenation. Names are letters, digits and
    _.
    """

    @abstractmethod
    def graph(self) -> nx.DiGraph:
        """Return the graph, the same at every call."""


class DenseGraph(CellGraph):
    """Every node reads the inputs and all nodes before it: DARTS' cell, 14 edges for 2 inputs and 4 nodes.
    [P]

    Args:
        nodes: besides the inputs.
        inputs: named a, b, ...; the nodes are 0, 1, ...
    """

    def __init__(self, nodes: int = 4, inputs: int = 2) -> None:
        require(
            "graph",
            (
                1 <= nodes <= 16 and 1 <= inputs <= 8,
                f"{nodes} nodes and {inputs} inputs; expected 1 to 16 and 1 to 8",
            ),
        )
        self.nodes, self.inputs = nodes, inputs

    def graph(self) -> nx.DiGraph:
        graph = nx.DiGraph()
        sources = [chr(ord("a") + i) for i in range(self.inputs)]
        graph.add_nodes_from(sources, input=True)
        for node in range(self.nodes):
            for source in (*sources, *map(str, range(node))):
                graph.add_edge(source, str(node))
        return graph


class EdgeGraph(CellGraph):
    """A cell graph spelled out.

    Args:
        edges: ``source>target``, for example ``["a>0", "b>0", "0>1"]``.
        inputs: names of the inputs, in the order in which the network gives them.
        outputs: names of the nodes that are joined; null: all that are no inputs.
    """

    def __init__(
        self, edges: Sequence[str], inputs: Sequence[str] = ("a", "b"), outputs: Sequence[str] | None = None
    ) -> None:
        self.edges, self.inputs = tuple(edges), tuple(inputs)
        self.outputs = None if outputs is None else tuple(outputs)

    def graph(self) -> nx.DiGraph:
        graph = nx.DiGraph()
        graph.add_nodes_from(self.inputs, input=True)
        for edge in self.edges:
            source, arrow, target = (part.strip() for part in edge.partition(">"))
            if not (source and arrow and target):
                raise InputError(f"graph: edge {edge!r}; expected 'source>target'")
            graph.add_edge(source, target)
        for name in self.outputs or ():
            if name not in graph:
                raise InputError(f"graph: output {name!r} is no node; there are {', '.join(graph)}")
            graph.nodes[name]["output"] = True
        return graph


@dataclass(frozen=True)
class CellPlan:
    """A cell graph that was checked, in plain tuples.

    Attributes:
        inputs: in the order in which the network gives them.
        nodes: the others, in an order in which every node comes after those it reads.
        edges: ``(source, target)``, by target in the order of the nodes, then by source.
        outputs: that are joined, in the order of the nodes.
    """

    inputs: tuple[str, ...]
    nodes: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, given: CellGraph | nx.DiGraph) -> CellPlan:
        """Check a graph.

        Raises:
            InputError: a cycle, a node that no input leads to or that leads to no output, or an edge into an
                input; they are named.
        """
        graph = given.graph() if isinstance(given, CellGraph) else given
        require(
            "graph",
            (isinstance(graph, nx.DiGraph), f"a {type(graph).__name__}; expected a networkx.DiGraph"),
        )
        graph = nx.relabel_nodes(graph, {node: str(node) for node in graph})
        # without marks, inputs are what no edge leads to, and outputs all the others
        _check_names_and_cycles(graph)
        marked = [node for node, about in graph.nodes(data=True) if about.get("input")]
        inputs = marked or [node for node in graph if not graph.in_degree(node)]
        others = [node for node in graph if node not in inputs]
        outputs = [node for node in others if graph.nodes[node].get("output")] or others
        _check_ways(graph, inputs, others, outputs)
        order = tuple(node for node in _sources_first(graph) if node not in inputs)
        # edges by their targets, so that all edges into a node come before those out of it
        rank = {node: number for number, node in enumerate((*inputs, *order))}
        edges = sorted(graph.edges, key=lambda edge: (rank[edge[1]], rank[edge[0]]))
        return cls(tuple(inputs), order, tuple(edges), tuple(node for node in order if node in outputs))

    @cached_property
    def incoming(self) -> dict[str, tuple[str, ...]]:
        """The nodes that each node may read, in order."""
        return {node: tuple(source for source, target in self.edges if target == node) for node in self.nodes}

    @cached_property
    def symmetries(self) -> tuple[dict[str, str], ...]:
        """Renamings of the nodes that leave inputs and outputs what they are, the identity first; at most
        those of six nodes.

        A genome and its renamed copy build the same network, up to the order of channels in the
        concatenation.
        """
        if len(self.nodes) > 6:
            return ({node: node for node in self.nodes},)
        found = []
        for names in permutations(self.nodes):
            renamed = dict(zip(self.nodes, names, strict=True))
            if all((node in self.outputs) == (name in self.outputs) for node, name in renamed.items()):
                found.append(renamed)
        return tuple(found)


def _sources_first(graph: nx.DiGraph) -> list[str]:
    """Return the nodes, each behind those that it reads, and else as they were added."""
    place = {node: number for number, node in enumerate(graph)}
    return list(nx.lexicographical_topological_sort(graph, key=lambda node: place[node]))


def _check_names_and_cycles(graph: nx.DiGraph) -> None:
    for node in graph:
        require("graph", (_NAME.fullmatch(node), f"node {node!r}; expected a name of letters, digits and _"))
    if not nx.is_directed_acyclic_graph(graph):
        cycle = [source for source, *_ in nx.find_cycle(graph)]
        raise InputError(f"graph: a cycle {' > '.join([*cycle, cycle[0]])}; expected a graph without one")


def _check_ways(
    graph: nx.DiGraph, inputs: Sequence[str], others: Sequence[str], outputs: Sequence[str]
) -> None:
    """Refuse edges into an input, and nodes that no input leads to or that lead to no output."""
    backwards = [f"{source}>{target}" for source, target in graph.edges if target in inputs]
    seen = set(inputs).union(*(nx.descendants(graph, node) for node in inputs))
    unseen = [node for node in others if node not in seen]
    heard = set(outputs).union(*(nx.ancestors(graph, node) for node in outputs))
    unheard = [node for node in (*inputs, *others) if node not in heard]
    require(
        "graph",
        (
            inputs and others,
            f"{len(inputs)} inputs and {len(others)} other nodes; expected at least one of each",
        ),
        (
            not backwards,
            f"{', '.join(backwards)} leads into an input; expected edges into the other nodes alone",
        ),
        (
            not unseen,
            f"no input leads to {', '.join(unseen)}; expected every node to be reached from "
            f"{', '.join(inputs)}",
        ),
        (
            not unheard,
            f"{', '.join(unheard)} leads to no output; expected a way to {', '.join(outputs)} from every "
            f"node",
        ),
    )


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        return renamed(__name__, name)
