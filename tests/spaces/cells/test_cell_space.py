"""The space of cells: its contract, validity, isomorphism, text, and networks that recipes make again."""

from collections.abc import Iterator

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from operators.repair.batchnorm import recalibrate
from search.finish.recipe import construct
from spaces.cells import CellSpace, CellStack, DenseGraph, EdgeGraph, SkipUNet, SupernetSpace
from spaces.errors import InputError
from spaces.testing import SpaceContract

EXAMPLE = (torch.linspace(-1, 1, 128).reshape(2, 1, 8, 8),)
SMALL = ("none", "skip", "avg_pool_3", "max_pool_3")


def stack(**more: object) -> CellSpace:
    arguments = {"graph": DenseGraph(3), "operations": SMALL} | more
    return CellSpace(CellStack(width=2, cells=2, reductions=[1], joined=3), EXAMPLE, **arguments)  # type: ignore[arg-type]


class TestCellStack(SpaceContract):
    def space(self) -> CellSpace:
        return stack(operations=("none", "skip", "sep_conv_3", "dil_conv_3"))

    def inputs(self) -> tuple[Tensor, ...]:
        return EXAMPLE


class TestCellsInSkips(SpaceContract):
    builds = 2

    def space(self) -> CellSpace:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return CellSpace(
                SkipUNet((4, 6)),
                EXAMPLE,
                graph=EdgeGraph(["a>0", "b>0", "a>1", "0>1"]),
                operations=SMALL,
                inputs_per_node=1,
            )

    def inputs(self) -> tuple[Tensor, ...]:
        return EXAMPLE


class TestSupernetSpace(SpaceContract):
    builds = 1

    def space(self) -> SupernetSpace:
        return SupernetSpace(CellStack(width=2, cells=1), EXAMPLE, graph=DenseGraph(4), operations=SMALL)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 4))
def test_every_node_has_its_inputs_and_is_reached(seed: int, count: int) -> None:
    space = _SPACES[count - 1]
    wild = np.random.default_rng(seed).integers(0, space.choices, size=(4, space.length)).astype(np.uint8)
    for genome in space.repair(wild):
        for edges in space.genotype(genome).values():
            graph = nx.DiGraph(list(edges))
            for node, sources in space.design.plan.incoming.items():
                assert graph.in_degree(node) == min(count, len(sources))
                assert any(
                    nx.has_path(graph, source, node) for source in space.design.plan.inputs if source in graph
                )


_SPACES = [stack(inputs_per_node=count) for count in (1, 2, 3, 4)]


def test_text_reads_back() -> None:
    space = stack()
    for genome in space.sample(20, np.random.default_rng(0)):
        assert (space.encode(space.write(genome)) == genome).all()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (
            "normal: 0<a:skip,b:sep_conv_9 1<a:skip,b:skip 2<a:skip,b:skip",
            "'sep_conv_9' on normal/b-0; expected skip",
        ),
        ("normal: 0<a:skip,c:skip", "on normal/c-0; expected one of the edges"),
        ("normal: 0<a:skip 1<a:skip,b:skip 2<a:skip,b:skip", "expected 2 inputs"),
        ("odd: 0<a:skip", "on odd/a-0"),
    ],
)
def test_text_of_another_space_is_refused(words: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        stack().encode(words)


def renamed(space: CellSpace, genome: np.ndarray, names: dict[str, str]) -> np.ndarray | None:
    """A genome whose nodes changed names; None where the graph has no such edges."""
    cells = {
        kind: {(names.get(s, s), names[t]): operation for (s, t), operation in edges.items()}
        for kind, edges in space.genotype(genome).items()
    }
    if any(edge not in space.design.plan.edges for edges in cells.values() for edge in edges):
        return None
    from spaces.cells import genotype as text

    return space.encode(text.write(cells))


def swaps(space: CellSpace) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for genome in space.sample(60, np.random.default_rng(1)):
        for names in ({"0": "1", "1": "0", "2": "2"}, {"0": "0", "1": "2", "2": "1"}):
            other = renamed(space, genome, names)
            if other is not None and (other != genome).any():
                yield genome, other


@pytest.mark.filterwarnings("ignore:The hashes produced for directed graphs")
def test_isomorphic_cells_are_the_same_and_others_are_not() -> None:
    space = stack()
    pairs = list(swaps(space))
    assert len(pairs) > 10
    for genome, other in pairs:
        assert (space.canonical(genome[None]) == space.canonical(other[None])).all()
    genomes = np.unique(space.canonical(space.sample(300, np.random.default_rng(2))), axis=0)
    assert (space.canonical(genomes) == genomes).all()
    seen: dict[str, list[nx.DiGraph]] = {}
    for genome in genomes[:120]:
        graph = nx.DiGraph()
        for kind, edges in space.genotype(genome).items():
            for (s, t), operation in edges.items():
                ends = [f"{kind}{n}" for n in (s, t)]
                for end, name in zip(ends, (s, t), strict=True):
                    graph.add_node(end, role=f"{kind} {name}" if name in space.design.plan.inputs else kind)
                graph.add_edge(*ends, operation=operation)
        key = nx.weisfeiler_lehman_graph_hash(graph, edge_attr="operation", node_attr="role")
        assert not any(
            nx.is_isomorphic(graph, old, lambda a, b: a == b, lambda a, b: a == b)
            for old in seen.get(key, [])
        )
        seen.setdefault(key, []).append(graph)


def test_isomorphic_cells_compute_the_same() -> None:
    """The order of channels in the concatenation is all that differs, so with the weights in that order
    outputs are equal.
    """
    space = stack()
    genome, other = next(swaps(space))
    one, two = (space.build(g).eval() for g in (genome, other))
    cells = [next(iter(network.cells.values())) for network in (one, two)]
    with torch.no_grad():
        for network in (one, two):
            for parameter in network.parameters():
                parameter.fill_(0.5)
    x = [torch.randn(2, 6, 8, 8)] * 2
    a, b = (cell(*x).sum(1) for cell in cells)
    assert torch.allclose(a, b, atol=1e-5)


def test_a_recipe_makes_the_network_again() -> None:
    space = stack(operations=("skip", "sep_conv_3"), width=4)
    genome = space.sample(1, np.random.default_rng(3))[0]
    spec = space.model_spec(
        genome,
        {
            "class_path": "spaces.cells.CellStack",
            "init_args": {"width": 2, "cells": 2, "reductions": [1], "joined": 3},
        },
    )
    built, again = space.build(genome), construct(spec, nn.Module, "here")
    again.load_state_dict(built.state_dict())
    assert torch.equal(built.eval()(*EXAMPLE), again.eval()(*EXAMPLE))


def test_the_network_that_is_given_stays_as_it_is() -> None:
    host = SkipUNet((4, 6))
    before = {name: tensor.clone() for name, tensor in host.state_dict().items()}
    space = CellSpace(host, EXAMPLE, graph=DenseGraph(2), operations=SMALL)
    network = space.build(space.sample(1, np.random.default_rng(0))[0])
    assert host.state_dict().keys() == before.keys() and all(
        torch.equal(before[n], t) for n, t in host.state_dict().items()
    )
    assert all(p.requires_grad for p in host.parameters())
    cells = {id(p) for cell in network.cells.values() for p in cell.parameters()}
    assert cells == {id(p) for p in network.parameters() if p.requires_grad}, (
        "the network around is frozen, the cells are not"
    )


def test_cells_in_a_trained_network_begin_by_changing_nothing() -> None:
    host = SkipUNet((4, 6)).eval()
    space = CellSpace(host, EXAMPLE, graph=DenseGraph(2), operations=SMALL)
    network = space.build(space.sample(1, np.random.default_rng(0))[0]).eval()
    assert torch.equal(network(*EXAMPLE), host(*EXAMPLE))


def test_recalibration_leaves_the_frozen_network_alone_and_not_the_cells() -> None:
    space = CellSpace(SkipUNet((4, 6)), EXAMPLE, graph=DenseGraph(2), operations=SMALL)
    network = space.build(space.sample(1, np.random.default_rng(0))[0])
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    recalibrate(network, [(EXAMPLE[0], torch.zeros(2))])
    moved = {name for name, buffer in network.named_buffers() if not torch.equal(buffer, before[name])}
    assert moved and all(".cell." in name for name in moved)
