import pickle
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from evaluators import Arrays, Candidate, Cost, count, smallest
from evaluators.cost.planned import PlannedCosts
from evaluators.testing import EvaluatorContract
from spaces import ChannelSpace, Segment
from spaces.channels.plan import Operation, SlicePlan, TensorSize
from spaces.choices import Choice, ChoiceSpace, Integer
from spaces.errors import InputError
from spaces.models import Perceptron, ResidualNet

IMAGES = torch.randn(2, 1, 8, 8)


class Mixed(nn.Module):
    """A depthwise convolution, and a flatten between a convolution and a linear layer."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 4, 1)
        )
        self.head = nn.Linear(4 * 16, 3)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


class Towers(ChoiceSpace):
    depth = Integer(1, 3)
    width = Choice([12, 4, 8])

    def build_from(self, depth, width):
        return nn.Sequential(nn.Linear(5, width), *(nn.Linear(width, width) for _ in range(depth)))


class Picky(Towers):
    def build_from(self, depth, width):
        if depth == 2:
            raise RuntimeError("not this one")
        return super().build_from(depth, width)


@cache
def residual_space():
    torch.manual_seed(0)
    return ChannelSpace(ResidualNet((4, 6)), IMAGES)


def vectors():
    return Arrays(np.zeros((20, 5)), np.arange(20) % 2)


class TestPlannedCost(EvaluatorContract):
    def evaluator(self):
        return Cost()

    def space(self):
        return residual_space()


class TestCountedCost(EvaluatorContract):
    def evaluator(self):
        return Cost()

    def space(self):
        return Towers()

    def data(self):
        return vectors()


@pytest.mark.parametrize("make", [lambda: ResidualNet((5, 8)), lambda: Perceptron((64, 12, 9, 10)), Mixed])
def test_arithmetic_agrees_with_counting_on_built_models(make):
    space = ChannelSpace(make(), IMAGES)
    cost = Cost()
    cost.bind(space)
    genomes = np.concatenate(
        [
            space.sample(15, np.random.default_rng(0)),
            space.base[None],
            space.repair(np.zeros((1, space.length))),
        ]
    )
    screened = cost.screen(genomes)
    for i, genome in enumerate(genomes):
        assert count(space.build(genome), (IMAGES,)) == {name: values[i] for name, values in screened.items()}


def plan():
    """3 inputs -> 4 channels (loci 0 to 3) -> flattened over 2 positions, joined with one fixed input -> 5
    outputs (loci 4 to 8).
    """
    hidden, flat, outputs = np.arange(4), np.array([0, 0, 1, 1, 2, 2, 3, 3, -1]), np.arange(4, 9)
    return SlicePlan(
        segments=(Segment("hidden", 4), Segment("outputs", 5)),
        axes=(),
        attributes=(),
        taps=(),
        operations=(
            Operation("a", 4 * 3 * 10, (hidden,)),
            Operation("b", 5 * 9, (outputs, flat)),
            Operation("c", 70, ()),
        ),
        tensors=(
            TensorSize("a.weight", (4, 3), 4, True, (hidden, None)),
            TensorSize("b.weight", (5, 9), 2, True, (outputs, flat)),
            TensorSize("b.steps", (5,), 8, False, (outputs,)),
            TensorSize("d", (), 8, False, ()),
        ),
        groups=(),
        frozen=(),
    )


def test_a_plan_by_hand():
    genomes = np.array(
        [[1, 0, 1, 1, 1, 1, 0, 0, 0], [1] * 9, [0] * 9], dtype=np.uint8
    )  # 3 of 4 channels, 2 of 5 outputs
    costs = PlannedCosts(plan())(genomes)
    assert costs["params"].tolist() == [3 * 3 + 2 * 7, 12 + 45, 0]
    assert costs["bytes"].tolist() == [4 * 9 + 2 * 14 + 8 * 2 + 8, 4 * 12 + 2 * 45 + 8 * 5 + 8, 8]
    assert costs["macs"].tolist() == [3 * 3 * 10 + 2 * 7 + 70, 120 + 45 + 70, 70]


def test_a_large_population_is_exact():
    """Ten thousand genomes of two thousand loci, and counts beyond what float32 holds."""
    loci = [np.arange(50) + 50 * i for i in range(40)]
    wide = SlicePlan(
        tuple(Segment(f"s{i}", 50) for i in range(40)),
        (),
        (),
        (),
        tuple(Operation(str(i), 50 * 50 * 9 * 1021**2, (loci[i], loci[i - 1])) for i in range(40)),
        tuple(
            TensorSize(str(i), (50, 50, 3, 3), 4, True, (loci[i], loci[i - 1], None, None)) for i in range(40)
        ),
        (),
        (),
    )
    genomes = (np.random.default_rng(0).random((10_000, 2_000)) < 0.5).astype(np.uint8)
    costs = PlannedCosts(wide)(genomes)
    kept = [genomes[:, axis].sum(axis=1, dtype=np.int64) for axis in loci]
    pairs = sum(kept[i] * kept[i - 1] for i in range(40))
    assert (costs["macs"] == pairs * 9 * 1021**2).all()
    assert (costs["params"] == pairs * 9).all() and (costs["bytes"] == pairs * 36).all()


def test_evaluating_yields_one_empty_report():
    (report,) = Cost().evaluate(nn.Identity(), Candidate(0, np.zeros(1)))
    assert report.metrics == {} and report.arrays == {}


def test_the_smallest_mask_is_what_the_minimal_genome_costs():
    space = ChannelSpace(ResidualNet((4, 8)), IMAGES, round_to=2)
    least = smallest(space)
    assert least == count(space.build(space.repair(np.zeros((1, space.length)))[0]), (IMAGES,))
    cost = Cost()
    cost.bind(space)
    sampled = cost.screen(space.sample(100, np.random.default_rng(0)))
    assert all(least[name] <= values.min() for name, values in sampled.items())


def test_the_smallest_choice_is_found_wherever_its_alleles_lie():
    assert smallest(Towers(), vectors()) == count(Towers().build_from(1, 4), (torch.zeros(2, 5),))


def test_counted_genomes_are_remembered(monkeypatch):
    space, cost = Towers(), Cost()
    cost.bind(space, vectors())
    genomes = space.sample(6, np.random.default_rng(0))
    before = cost.screen(genomes)
    monkeypatch.setattr(space, "build", lambda genome: pytest.fail("built again"))
    assert all((cost.screen(genomes)[name] == values).all() for name, values in before.items())


def test_what_cannot_be_built_costs_infinity_and_stops_nobody():
    space, cost = Picky(), Cost()
    cost.bind(space, vectors())
    genomes = np.array([[0, 0], [1, 0], [2, 0]], dtype=np.uint8)
    assert np.isinf(cost.screen(genomes)["macs"]).tolist() == [False, True, False]
    assert smallest(space, vectors())["macs"] < np.inf


def test_without_a_plan_it_needs_data():
    with pytest.raises(InputError, match=r"Towers has no slice plan.*expected data"):
        Cost().bind(Towers())


def test_it_ships_no_tables():
    space, cost = ChannelSpace(ResidualNet((4, 6)), IMAGES), Cost()
    cost.bind(space)
    before = len(pickle.dumps(cost))
    cost.screen(space.base[None])
    assert len(pickle.dumps(cost)) <= before + 64
