"""Steps are those of the kernels."""

import numpy as np
import pytest
import torch
from torch import nn

from evaluators.cost.predicted.steps import steps
from spaces import ChannelSpace


@pytest.fixture(scope="module")
def space():
    model = nn.Sequential(nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 40), nn.ReLU(), nn.Linear(40, 2))
    return ChannelSpace(model.eval(), (torch.randn(2, 6),))


def times(space, *kernels):
    places = space.plan.starts.values()
    return lambda genomes: (
        1.0
        + sum(kernel(genomes[:, place].sum(axis=1)) for kernel, place in zip(kernels, places, strict=True))
    )


def blocks(size):
    return lambda width: 0.01 * np.ceil(width / size) * size


def straight(width):
    return 0.01 * width


def slow_between(width):
    return 0.01 * width * np.where(width % 4, 1.5, 1.0)


@pytest.mark.parametrize(
    ("kernels", "expected"),
    [
        ((blocks(8), straight), [8, None]),
        ((blocks(16), blocks(2)), [16, 2]),
        ((slow_between, straight), [4, None]),
        ((straight, straight), [None, None]),
    ],
)
def test_a_group_is_rounded_to_what_its_kernel_works_on(space, kernels, expected):
    found = steps(space.plan, times(space, *kernels))
    assert [found.get(segment.name) for segment in space.plan.segments] == expected


def test_noise_is_no_staircase(space):
    rng = np.random.default_rng(0)
    exact = times(space, straight, straight)
    found = steps(space.plan, lambda genomes: exact(genomes) * rng.normal(1, 0.002, len(genomes)))
    assert max(found.values(), default=1) <= 2
