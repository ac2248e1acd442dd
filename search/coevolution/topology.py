"""The graph of cells: which ones meet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from spaces.errors import InputError, require
from spaces.lazy import LazyModule

if TYPE_CHECKING:
    import networkx as nx
else:
    nx = LazyModule("networkx")


class Topology(ABC):
    """A connected undirected graph whose nodes are the cells ``0 .. n - 1``."""

    @abstractmethod
    def graph(self) -> nx.Graph:
        """Return the graph; the same one at every call."""

    def neighbourhoods(self, radius: int = 1) -> list[tuple[int, ...]]:
        """Return for every cell itself, then all cells at most `radius` edges away, the nearer ones first.

        Raises:
            InputError: a graph that is not connected, is directed, or has other nodes than whole numbers from
                0 on.
        """
        require("strategy", (radius >= 1, f"radius {radius}; expected at least 1"))
        graph, name = self.graph(), type(self).__name__
        require(
            f"topology {name}",
            (not graph.is_directed(), "the graph is directed; expected an undirected networkx.Graph"),
            (
                len(graph) and set(graph) == set(range(len(graph))),
                f"nodes {_shortened(sorted(graph, key=str))}; expected the whole numbers 0 to "
                f"{len(graph) - 1}",
            ),
        )
        if not nx.is_connected(graph):
            lost = sorted(set(graph) - nx.node_connected_component(graph, 0))
            raise InputError(
                f"topology {name}: not connected: no path leads from cell 0 to {_shortened(lost)}; expected "
                f"a connected graph"
            )
        found = []
        for cell in range(len(graph)):
            distances = nx.single_source_shortest_path_length(graph, cell, cutoff=radius)
            found.append(tuple(sorted(distances, key=lambda node: (distances[node], node))))
        return found


class Ring(Topology):
    """A circle of cells, each with two neighbours (one, where there are two cells; none, where
    there is one).
    """

    def __init__(self, cells: int = 10) -> None:
        self.cells = _at_least("Ring", "cells", cells, 1)

    def graph(self) -> nx.Graph:
        return nx.Graph(nx.path_graph(1)) if self.cells == 1 else _simple(nx.cycle_graph(self.cells))


class Torus(Topology):
    """A grid whose edges are joined: cell ``row * columns + column`` has four neighbours, the grid of
    Lipizzaner. [P]
    """

    def __init__(self, rows: int = 4, columns: int = 4) -> None:
        self.rows = _at_least("Torus", "rows", rows, 1)
        self.columns = _at_least("Torus", "columns", columns, 1)

    def graph(self) -> nx.Graph:
        grid = nx.grid_2d_graph(self.rows, self.columns, periodic=True)
        return _simple(
            nx.relabel_nodes(grid, {(row, column): row * self.columns + column for row, column in grid})
        )


class RandomRegular(Topology):
    """A random graph in which every cell has `degree` neighbours; drawn again, from the next seed, until it
    is connected.
    """

    def __init__(self, cells: int = 16, degree: int = 3, seed: int = 0) -> None:
        self.cells = _at_least("RandomRegular", "cells", cells, 2)
        self.degree, self.seed = _at_least("RandomRegular", "degree", degree, 1), seed
        if degree >= cells or cells * degree % 2 or (degree == 1 and cells > 2):
            raise InputError(
                f"topology RandomRegular: {cells} cells of degree {degree}; expected a degree of 2 to "
                f"{cells - 1} and an even product"
            )

    def graph(self) -> nx.Graph:
        seed = self.seed
        while not nx.is_connected(graph := nx.random_regular_graph(self.degree, self.cells, seed)):
            seed += 1
        return graph


class Complete(Topology):
    """Every cell meets every other: one population."""

    def __init__(self, cells: int = 5) -> None:
        self.cells = _at_least("Complete", "cells", cells, 1)

    def graph(self) -> nx.Graph:
        return nx.complete_graph(self.cells)


class Edges(Topology):
    """A graph of one's own, edge by edge.

    Args:
        cells: how many there are.
        edges: pairs of cells.
    """

    def __init__(self, cells: int, edges: Sequence[Sequence[int]]) -> None:
        self.cells, self.edges = _at_least("Edges", "cells", cells, 1), [tuple(edge) for edge in edges]
        for edge in self.edges:
            if len(edge) != 2 or not all(isinstance(cell, int) and 0 <= cell < cells for cell in edge):
                raise InputError(
                    f"topology Edges: edge {list(edge)}; expected two cells out of 0 to {cells - 1}"
                )

    def graph(self) -> nx.Graph:
        graph = nx.empty_graph(self.cells)
        graph.add_edges_from(self.edges)
        return _simple(graph)


def _simple(graph: nx.Graph) -> nx.Graph:
    """Without loops: a cell is in its own neighbourhood anyway."""
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    return graph


def _at_least(topology: str, name: str, value: int, least: int) -> int:
    require(f"topology {topology}", (value >= least, f"{name} {value}; expected at least {least}"))
    return value


def _shortened(nodes: Sequence[object]) -> str:
    return ", ".join(map(str, nodes[:5])) + (f" and {len(nodes) - 5} more" if len(nodes) > 5 else "")
