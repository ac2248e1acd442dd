"""Depth: residual blocks that are left out as a whole."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evaluators.cost.counting import count
from evaluators.cost.planned import PlannedCosts
from search.finish.recipe import attributes_of, shrink, slices_of
from spaces import ChannelSpace, InputError
from spaces.channels.depth import Skip
from spaces.testing import SpaceContract
from tests.zoo.cases import example_of, model_of


def space_of(name: str = "HeadwiseGPT", depth: tuple[str, ...] = ("blocks.*",), **options) -> ChannelSpace:
    return ChannelSpace(model_of(name), example_of(name), depth=depth, **options)


class TestDepthSpace(SpaceContract):
    def space(self) -> ChannelSpace:
        return space_of()

    def inputs(self) -> tuple[Tensor, ...]:
        return example_of("HeadwiseGPT")


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("HeadwiseGPT", "blocks.*"), ("Mixer", "blocks.*"), ("ResNet", "layers.*"), ("ConvNeXt", "blocks.*")],
)
def test_a_model_without_some_blocks_equals_the_reference_and_its_costs(name: str, pattern: str):
    space = space_of(name, (pattern,))
    genomes = np.concatenate(
        [space.sample(4, np.random.default_rng(0)), space.repair(np.zeros((1, space.length), dtype=np.uint8))]
    )
    genomes[0, space.slices["depth"]] = 0
    genomes[1, space.slices["depth"]] = (
        np.arange(space.slices["depth"].stop - space.slices["depth"].start) % 2
    )
    planned = PlannedCosts(space.plan)(genomes)
    for row, genome in enumerate(genomes):
        assert space.difference(genome) < 1e-5
        assert count(space.build(genome), example_of(name)) == {
            cost: values[row] for cost, values in planned.items()
        }


def test_only_blocks_that_fit_can_go_and_the_others_are_named():
    space = space_of("ResNet", ("layers.*",))
    assert next(g for g in space.plan.groups if g.name == "depth").members == ("layers.1",)
    notes = space.report()["notes"]
    assert any(
        "layers.0 always stays: what it gives has not the channels of what it gets" in note for note in notes
    )


def test_it_is_gone_from_the_model_and_a_recipe_says_so():
    space = space_of()
    genome = space.base.copy()
    genome[space.slices["depth"]] = [1, 0]
    model = space.build(genome)
    assert isinstance(model.blocks[1], Skip) and not any(
        name.startswith("blocks.1.") for name in model.state_dict()
    )
    again = shrink(model_of("HeadwiseGPT"), slices_of(space, genome), attributes_of(space, genome))
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(again(*example_of("HeadwiseGPT")), model(*example_of("HeadwiseGPT")))
    model.load_state_dict(space.gather(genome, space.model.state_dict()))


def test_a_block_that_takes_its_stream_second_always_stays():
    class Second(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(8, 8)

        def forward(self, scale: float, x: Tensor) -> Tensor:
            return x + scale * self.a(x)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.block, self.head = nn.Linear(4, 8), Second(), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.block(0.5, self.stem(x)))

    space = ChannelSpace(Net(), torch.randn(2, 4), depth=["block"])
    assert "depth" not in space.slices and "left out on its own" in space.report()["notes"][0]


def test_a_pattern_that_matches_nothing_is_told():
    with pytest.raises(
        InputError, match=r"space.depth: 'nosuch' matches no module; there are wte, wpe, blocks"
    ):
        space_of(depth=("nosuch",))
