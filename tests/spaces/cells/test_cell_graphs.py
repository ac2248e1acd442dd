"""Cell graphs, their operations, and genotypes as text."""

import networkx as nx
import pytest
import torch
from torch import nn

from spaces.cells import DARTS, CellGraph, CellPlan, CellStack, DenseGraph, Design, EdgeGraph, Operations
from spaces.cells import genotype as text
from spaces.errors import InputError


class Halving(nn.Sequential):
    """An operation that always halves the image: fine on an edge of stride 2, wrong elsewhere."""

    def __init__(self, channels: int, stride: int, affine: bool) -> None:
        super().__init__(nn.AvgPool2d(2))


class Doubling(nn.Conv2d):
    """An operation that returns twice the channels."""

    def __init__(self, channels: int, stride: int, affine: bool) -> None:
        super().__init__(channels, 2 * channels, 3, stride, 1)


class Own(nn.Conv2d):
    """A user's operation that keeps to the rules."""

    def __init__(self, channels: int, stride: int, affine: bool) -> None:
        super().__init__(channels, channels, 3, stride, 1, bias=affine)


def test_darts_cell_has_fourteen_edges() -> None:
    plan = CellPlan.of(DenseGraph())
    assert (
        len(plan.edges) == 14
        and plan.inputs == ("a", "b")
        and plan.outputs == plan.nodes == ("0", "1", "2", "3")
    )
    assert plan.incoming["2"] == ("a", "b", "0", "1")


def test_nodes_come_after_what_they_read_whatever_their_names() -> None:
    plan = CellPlan.of(EdgeGraph(["b>z", "z>y", "a>y", "y>x"], outputs=["x"]))
    assert plan.nodes == ("z", "y", "x") and plan.outputs == ("x",)


class Cyclic(CellGraph):
    def graph(self) -> nx.DiGraph:
        return nx.DiGraph([("a", "p"), ("p", "q"), ("q", "p")])


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (Cyclic(), "a cycle p > q > p"),
        (EdgeGraph(["a>0", "b>0", "lost>1"], inputs=["a", "b"]), "no input leads to lost, 1"),
        (EdgeGraph(["a>0", "b>0", "a>1"], outputs=["0"]), "1 leads to no output"),
        (EdgeGraph(["a>0", "b>0"], inputs=["a", "b", "c"]), "c leads to no output"),
        (EdgeGraph(["a>b", "b>0"], inputs=["a", "b"]), "a>b leads into an input"),
        (
            EdgeGraph(["a>0"], inputs=["a"], outputs=["0"]).graph().to_undirected(),
            "expected a networkx.DiGraph",
        ),
        (nx.DiGraph([("a", "no-name")]), "'no-name'"),
    ],
)
def test_a_graph_that_does_not_work_is_refused_by_name(graph: CellGraph | nx.Graph, words: str) -> None:
    with pytest.raises(InputError, match=words):
        CellPlan.of(graph)


@pytest.mark.parametrize("edge", ["a0", ">0", "a>"])
def test_an_edge_that_is_no_edge_is_refused(edge: str) -> None:
    with pytest.raises(InputError, match="source>target"):
        EdgeGraph([edge]).graph()


def test_symmetries_keep_outputs_where_they_are() -> None:
    assert len(CellPlan.of(DenseGraph(3)).symmetries) == 6
    plan = CellPlan.of(EdgeGraph(["a>0", "b>0", "a>1", "b>1", "0>2", "1>2"], outputs=["2"]))
    assert [renaming["2"] for renaming in plan.symmetries] == ["2", "2"]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [8, 7])
def test_darts_operations_keep_channels_and_reduce_by_their_stride(stride: int, size: int) -> None:
    operations = Operations(DARTS, (1, 2))
    for name in operations.names:
        y = operations.make(name, 6, stride)(torch.randn(2, 6, size, size))
        assert y.shape == (2, 6, -(-size // stride), -(-size // stride)), name


def test_a_users_operation_goes_by_its_class() -> None:
    operations = Operations(["skip", f"{__name__}.Own"])
    assert operations.names == ("skip", "Own")
    assert isinstance(operations.make("Own", 3), Own)


@pytest.mark.parametrize(
    ("names", "strides", "words"),
    [
        (["skip", "sep_conv_7"], (1,), "no operation 'sep_conv_7'"),
        (["skip", "skip"], (1,), "'skip' stands there twice"),
        (["none", "skip"], (1,), "1 operation"),
        (["skip", "nowhere.Operation"], (1,), "cannot be imported"),
        (
            ["skip", f"{__name__}.Halving"],
            (1, 2),
            r"Halving makes \(2, 4, 4, 4\) .* stride 1; expected \(2, 4, 8, 8\)",
        ),
        (["skip", f"{__name__}.Doubling"], (1,), "Doubling makes"),
        (["skip", "torch.nn.LSTM"], (1,), "LSTM at stride 1"),
    ],
)
def test_operations_that_cannot_stand_on_an_edge_are_refused(
    names: list[str], strides: tuple[int, ...], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        Operations(names, strides)


def test_an_operation_that_halves_may_stand_where_all_edges_halve() -> None:
    assert Operations(["max_pool_3", f"{__name__}.Halving"], (2,)).names == ("max_pool_3", "Halving")


def test_genotypes_read_back() -> None:
    cells = {
        "normal": {("a", "0"): "skip", ("b", "0"): "sep_conv_3", ("0", "1"): "max_pool_3"},
        "reduction": {("a", "0"): "Own"},
    }
    words = text.write(cells)
    assert words == "normal: 0<a:skip,b:sep_conv_3 1<0:max_pool_3; reduction: 0<a:Own"
    assert text.read(words) == cells


@pytest.mark.parametrize(
    "words", ["0<a:skip", "normal 0<a:skip", "normal: 0", "normal: 0<a", "normal: 0<a:b:c", "normal: a>0"]
)
def test_a_genotype_that_is_not_understood_is_refused(words: str) -> None:
    with pytest.raises(InputError, match="genotype"):
        text.read(words)


def test_a_design_says_what_it_lacks() -> None:
    example = (torch.zeros(2, 1, 8, 8),)
    with pytest.raises(InputError, match="graph has 3 input"):
        Design(CellStack(width=2, cells=1), example, graph=DenseGraph(1, inputs=3))
    with pytest.raises(InputError, match="inputs_per_node 0"):
        Design(CellStack(width=2, cells=1), example, inputs_per_node=0)
    with pytest.raises(InputError, match="width 6; expected a multiple of 4"):
        Design(CellStack(width=2, cells=1), example, graph=DenseGraph(1), width=6).supernet(4)
