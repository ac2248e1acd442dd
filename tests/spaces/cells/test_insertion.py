"""Where cells go: places that are declared, MONAI's skip connections, and any module by name."""

import numpy as np
import pytest
import torch
from torch import nn

from spaces.cells import CellSpace, CellStack, DenseGraph, Design, SkipUNet
from spaces.cells.insertion import Insertion
from spaces.errors import InputError
from spaces.models import ResidualNet

IMAGE = (torch.linspace(-1, 1, 2 * 16 * 16).reshape(2, 1, 16, 16),)
OPERATIONS = ("none", "skip", "avg_pool_3", "sep_conv_3")


def skip_connected() -> nn.Module:
    nets = pytest.importorskip("monai.networks.nets")
    return nets.UNet(
        spatial_dims=2, in_channels=1, out_channels=3, channels=(4, 6, 8), strides=(2, 2), num_res_units=1
    ).eval()


@pytest.mark.parametrize("monai", [False, True])
def test_skips_of_a_u_net_take_cells_that_hear_the_decoder(monai: bool) -> None:
    host = skip_connected() if monai else SkipUNet((4, 6, 8), classes=3).eval()
    design = Design(host, IMAGE, graph=DenseGraph(1), operations=OPERATIONS)
    assert [place.outputs for place in design.places] == ([4, 6] if monai else [6, 4])
    supernet = design.supernet(share=1).eval()
    assert torch.equal(supernet(*IMAGE), host(*IMAGE)), "a cell whose last BatchNorm is zero changes nothing"
    heard = []
    for cell in supernet.network.cells.values():
        nn.init.ones_(cell.exit[1].weight)  # type: ignore[index,arg-type]
        cell.register_forward_pre_hook(lambda _, given: heard.append([tuple(x.shape[1:]) for x in given]))
    assert not torch.equal(supernet(*IMAGE), host(*IMAGE)), "the cell is on the way"
    assert all(one[1:] == other[1:] for one, other in heard), "skip and decoder feature have one resolution"
    assert len(heard) == 2


def test_any_module_takes_a_cell_behind_it() -> None:
    host = ResidualNet((4, 6)).eval()
    design = Design(host, IMAGE, graph=DenseGraph(2, inputs=1), operations=OPERATIONS, at=["blocks.0"])
    supernet = design.supernet(share=1).eval()
    assert torch.equal(supernet(*IMAGE), host(*IMAGE))
    assert list(supernet.network.cells) == ["blocks.0"] and supernet.network.places[0].inputs == (4,)


def test_an_insertion_without_a_cell_passes_on_its_first_input() -> None:
    x, y = torch.ones(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)
    assert Insertion((2, 2))(x, y) is x


@pytest.mark.parametrize(
    ("host", "at", "words"),
    [
        (SkipUNet((4, 6)), ["skips.7"], "no module 'skips.7'; there are skips.0"),
        (ResidualNet((4, 6)), None, "neither insertion points nor skip connections; expected names of stem"),
        (ResidualNet((4, 6)), ["nowhere"], "no module 'nowhere'; there are stem"),
        (ResidualNet((4, 6)), ["head"], "'head' gives .*; expected images"),
        (SkipUNet((4, 6)), [], "at least one name"),
        (SkipUNet((4, 6)), ["skips.0", "skips.0"], "each once"),
    ],
)
def test_a_place_that_is_not_there_is_refused_and_those_there_are_listed(
    host: nn.Module, at: list[str] | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        CellSpace(host, IMAGE, at=at)


def test_reduction_cells_halve_and_the_next_cell_takes_it() -> None:
    space = CellSpace(
        CellStack(width=2, cells=3, reductions=[0, 1]), (IMAGE[0][..., :9, :9],), operations=OPERATIONS
    )
    sizes = []
    network = space.build(space.sample(1, np.random.default_rng(0))[0])
    for cell in network.cells.values():
        cell.register_forward_hook(lambda _, given, y: sizes.append(tuple(y.shape[2:])))
    network(IMAGE[0][..., :9, :9])
    assert sizes == [(5, 5), (3, 3), (3, 3)]
