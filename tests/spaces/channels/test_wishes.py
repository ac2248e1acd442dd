"""What a user may want of groups: frozen, tied, cut, rounded and bounded by patterns of names."""

import numpy as np
import pytest
import torch

from spaces import ChannelSpace, InputError
from spaces.testing import SpaceContract
from tests.zoo.cases import example_of, model_of


def space_of(**options) -> ChannelSpace:
    return ChannelSpace(model_of("SeparateViT"), example_of("SeparateViT"), **options)


def smallest(space: ChannelSpace) -> dict[str, int]:
    genome = space.repair(np.zeros((1, space.length), dtype=np.uint8))[0]
    assert space.difference(genome) < 1e-5
    return {name: int(genome[part].sum()) for name, part in space.slices.items()}


class TestWithWishes(SpaceContract):
    def space(self) -> ChannelSpace:
        return space_of(
            round_to={"*.fc1": 8, "patch": 4},
            least={"patch": 0.5},
            tie=[["blocks.*.mlp.fc1"]],
            split={"patch": 2},
            freeze=["*.heads"],
            most={"*.fc1": 0.5},
        )

    def inputs(self) -> tuple[torch.Tensor, ...]:
        return example_of("SeparateViT")


def test_round_to_and_least_hold_for_their_groups_alone():
    kept = smallest(space_of(round_to={"*.fc1": 8, "patch": 5}, least={"patch": 0.5, "*.head_dim": 0.75}))
    assert kept["blocks.0.mlp.fc1"] == 8 and kept["patch"] == 10 and kept["blocks.1.attn.q.head_dim"] == 3
    assert kept["blocks.0.attn.q.heads"] == 1


def test_an_upper_bound_holds_for_everything_but_the_base_model():
    space = space_of(most={"patch": 0.5, "*.fc1": 0.3}, round_to={"*.fc1": 8}, least={"patch": 0.25})
    genomes = space.sample(40, np.random.default_rng(0))
    assert {*genomes[:, space.slices["patch"]].sum(1)} <= {*range(4, 9)}
    assert {*genomes[:, space.slices["blocks.0.mlp.fc1"]].sum(1)} == {8}
    nearly = space.base.copy()
    nearly[-1] = 0
    assert space.repair(nearly[None])[0, space.slices["patch"]].sum() == 8
    assert (space.repair(space.base[None]) == space.base).all()
    assert space.fingerprint != space_of(round_to={"*.fc1": 8}, least={"patch": 0.25}).fingerprint


def test_tied_groups_are_one():
    space = space_of(tie=[["blocks.0.mlp.*", "blocks.1.mlp.*"]])
    group = next(g for g in space.plan.groups if g.name == "blocks.0.mlp.fc1")
    assert {"blocks.0.mlp.fc1.weight[0]", "blocks.1.mlp.fc1.weight[0]"} <= {*group.members}
    assert smallest(space)["blocks.0.mlp.fc1"] == 1


def test_a_group_is_cut_in_order():
    space = space_of(split={"patch": 2})
    genome = space.base.copy()
    genome[space.slices["patch/1"]] = [1] + [0] * 7
    assert space.slice_indices(genome)["patch.weight"][0].tolist() == [0, *range(8, 16)]


def test_heads_are_frozen_by_the_name_of_their_group():
    space = space_of(freeze=["*.heads"])
    assert (
        not any(name.endswith("heads") for name in space.slices)
        and "blocks.0.attn.q.head_dim" in space.slices
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"round_to": {"nosuch": 8}}, r"space.round_to: 'nosuch' matches no group; there are patch"),
        ({"least": {"patch": 2.0}}, "space.least: shares are from 0 to 1"),
        ({"most": {"patch": -0.1}}, "space.most: shares are from 0 to 1"),
        (
            {"most": {"patch": 0.5}, "least": {"patch": 0.75}},
            "space.most: patch has 16 channels, at most 8 and at least 12 of them",
        ),
        ({"least": {"nosuch": 0.5}}, "space.least: 'nosuch' matches no group"),
        (
            {"tie": [["patch", "*.fc1"]]},
            "space.tie: groups of different sizes cannot keep the same places; patch has 16, "
            "blocks.0.mlp.fc1 has 32",
        ),
        ({"split": {"patch": 17}}, "space.split: patch has 16 channels; expected 2 to 16 parts, got 17"),
        ({"round_to": {"patch": 0}}, "round_to and min_keep must be at least 1"),
    ],
)
def test_wishes_that_cannot_be_granted_are_told_in_one_line(options, message):
    with pytest.raises(InputError, match=message) as error:
        space_of(**options)
    assert "\n" not in str(error.value)
