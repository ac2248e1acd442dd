"""Topologies: who meets whom, and graphs that do not fit."""

from __future__ import annotations

import networkx as nx
import pytest

from search.coevolution import Complete, Edges, RandomRegular, Ring, Topology, Torus
from spaces.errors import InputError


def test_a_ring_meets_both_sides() -> None:
    neighbourhoods = Ring(10).neighbourhoods()
    assert neighbourhoods[0] == (0, 1, 9)
    assert neighbourhoods[5] == (5, 4, 6)


def test_a_larger_radius_meets_more_and_the_nearer_ones_first() -> None:
    assert Ring(10).neighbourhoods(radius=2)[0] == (0, 1, 9, 2, 8)


def test_a_torus_has_neighbourhoods_of_five() -> None:
    neighbourhoods = Torus(4, 5).neighbourhoods()
    assert len(neighbourhoods) == 20
    assert all(len(meets) == 5 for meets in neighbourhoods)
    assert neighbourhoods[0] == (0, 1, 4, 5, 15)


@pytest.mark.parametrize("topology", [Ring(1), Ring(2), Torus(1, 1), Torus(1, 2), Torus(2, 2), Complete(1)])
def test_small_graphs_have_no_cell_twice(topology: Topology) -> None:
    for cell, meets in enumerate(topology.neighbourhoods()):
        assert meets[0] == cell
        assert len(set(meets)) == len(meets)


def test_random_regular_graphs_are_connected_and_the_same_at_every_call() -> None:
    topology = RandomRegular(cells=20, degree=3, seed=4)
    assert topology.neighbourhoods() == topology.neighbourhoods()
    assert all(len(meets) == 4 for meets in topology.neighbourhoods())


def test_everybody_meets_everybody_in_a_complete_graph() -> None:
    assert all(sorted(meets) == list(range(6)) for meets in Complete(6).neighbourhoods())


class Star(Topology):
    """A graph of one's own."""

    def graph(self) -> nx.Graph:
        return nx.star_graph(4)


def test_neighbourhoods_are_symmetric_in_any_graph() -> None:
    for topology in (Star(), Torus(3, 4), RandomRegular(12, 3, 1), Edges(4, [[0, 1], [1, 2], [2, 3]])):
        neighbourhoods = topology.neighbourhoods(radius=2)
        for cell, meets in enumerate(neighbourhoods):
            assert all(cell in neighbourhoods[other] for other in meets)


class Letters(Topology):
    def graph(self) -> nx.Graph:
        return nx.Graph([("a", "b")])


class Directed(Topology):
    def graph(self) -> nx.Graph:
        return nx.DiGraph([(0, 1), (1, 0)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Edges(4, [[0, 1], [2, 3]]).neighbourhoods(),
            "topology Edges: not connected: no path leads from cell 0 to 2, 3",
        ),
        (lambda: Edges(4, [[0, 7]]), r"topology Edges: edge \[0, 7\]; expected two cells out of 0 to 3"),
        (lambda: Edges(4, [[0]]), "expected two cells"),
        (lambda: Ring(0), "topology Ring: cells 0; expected at least 1"),
        (lambda: RandomRegular(5, 3), "topology RandomRegular: 5 cells of degree 3"),
        (
            lambda: Letters().neighbourhoods(),
            "topology Letters: nodes a, b; expected the whole numbers 0 to 1",
        ),
        (lambda: Directed().neighbourhoods(), "directed"),
        (lambda: Ring(4).neighbourhoods(radius=0), "radius 0; expected at least 1"),
    ],
)
def test_graphs_that_do_not_fit_are_refused_in_one_line(make, message: str) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        make()
    assert "\n" not in str(refusal.value)
