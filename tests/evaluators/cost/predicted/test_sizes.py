"""Sizes in a graph are found among the axes of a plan."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from evaluators.cost.predicted.sizes import AxisSizes, Size, matched
from spaces import ChannelSpace

KEPT = np.array([[3, 7, 12, 5], [8, 2, 9, 9]])


@pytest.mark.parametrize(
    ("numbers", "size"),
    [
        ([4, 4, 4, 4], Size(plus=4)),
        ([8, 2, 9, 9], Size(1)),
        ([8, 8, 16, 8], Size(0, block=8)),
        ([27, 63, 108, 45], Size(0, Fraction(9))),
        ([11, 5, 12, 12], Size(1, plus=3)),
        ([6, 14, 24, 11], None),
    ],
    ids=["constant", "an axis", "blocks", "flattened", "an axis and more", "nothing"],
)
def test_a_number_follows_from_an_axis(numbers, size):
    found = matched(np.array(numbers), KEPT)
    assert found == size
    if found is not None:
        np.testing.assert_array_equal(found(KEPT[max(0, found.axis)]), numbers)


def test_axes_of_a_plan_are_as_long_as_what_is_built():
    model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 2))
    space = ChannelSpace(model.eval(), (torch.randn(2, 6),))
    genomes = space.sample(4, np.random.default_rng(0))
    sizes = AxisSizes(space.plan)(genomes)
    for column, genome in zip(sizes.T, genomes, strict=True):
        built = space.build(genome)
        assert sorted(set(column)) == sorted({*built[0].weight.shape[:1], *built[2].weight.shape[:1]})
