"""All operators together on a real space: a residual network, traced and sliced."""

import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from operators.criteria import Activation, Magnitude, Random, Taylor, record, score_all
from operators.crossover import SegmentWise, Uniform
from operators.initialisation import FromCriteria, Sampled, UniformBudget
from operators.mutation import ActivationGuided, BitFlip, BudgetShift, CriterionGuided
from operators.repair import recalibrate
from operators.testing.toys import assert_valid
from spaces import ChannelSpace
from spaces.models import ResidualNet


def loss(outputs, targets):
    return cross_entropy(outputs, targets, reduction="none")


@pytest.fixture(scope="module")
def batches():
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(16, 1, 8, 8, generator=generator), torch.randint(10, (16,), generator=generator))
        for _ in range(2)
    ]


@pytest.fixture(scope="module")
def space(batches):
    torch.manual_seed(0)
    model = ResidualNet(widths=(8, 12, 16))
    recalibrate(model, batches)
    return ChannelSpace(model.eval(), batches[0][0], round_to=2)


@pytest.fixture(scope="module")
def guide(space, batches):
    return score_all([Magnitude(), Taylor(), Activation(), Random()], space.model, batches, space.plan, loss)


def test_every_channel_has_every_score(space, guide):
    for name in ("magnitude", "taylor", "activation", "random"):
        assert guide[name].shape == (space.length,)
        assert (guide[name] > 0).mean() > 0.9


def test_taylor_foresees_what_closing_a_gate_a_little_does(space, guide, batches):
    """On the sliced space a gate on a locus is a factor on the BatchNorms that carry it."""
    model, step = copy.deepcopy(space.model).double(), 1e-6

    def losses(factor, locus):
        handles = []
        for tap in space.plan.taps:
            gate = torch.from_numpy(np.where(tap.loci == locus, factor, 1.0)).reshape(1, -1, 1, 1).double()
            handles.append(
                model.get_submodule(tap.module).register_forward_hook(
                    lambda module, inputs, output, gate=gate: output * gate
                )
            )
        result = torch.cat([loss(model(images.double()), labels) for images, labels in batches])
        for handle in handles:
            handle.remove()
        return result

    with torch.no_grad():
        for locus in range(0, space.length, 7):
            slope = (losses(1 + step, locus) - losses(1 - step, locus)) / (2 * step)
            assert slope.abs().mean().item() == pytest.approx(guide["taylor"][locus], rel=0.02, abs=1e-6)


@pytest.mark.parametrize(
    "initialisation", [FromCriteria(), UniformBudget(), Sampled()], ids=lambda i: type(i).__name__
)
@pytest.mark.parametrize(
    "mutation",
    [BitFlip(0.05), CriterionGuided(), CriterionGuided(["activation"]), ActivationGuided(), BudgetShift()],
    ids=lambda m: type(m).__name__,
)
def test_children_are_valid(space, guide, initialisation, mutation):
    rng = np.random.default_rng(0)
    parents = initialisation(space, 20, guide, rng)
    assert_valid(space, parents, (20, space.length))
    for crossover in (Uniform(), SegmentWise()):
        children = crossover(space, parents, parents[::-1], rng)
        assert_valid(space, children, parents.shape)
        assert_valid(space, mutation(space, children, guide, rng), parents.shape)


def test_a_compact_model_reports_what_the_guide_needs(space, guide, batches):
    genome = space.sample(1, np.random.default_rng(3))[0]
    model = space.build(genome)
    assert recalibrate(model, batches) == 2
    with torch.no_grad(), record(model.eval(), space.plan, genome) as activations:
        for images, _ in batches:
            model(images)
    seen = activations.mean()
    assert (np.isnan(seen) == (genome == 0)).all()
    child = ActivationGuided()(
        space,
        genome[None],
        {"activation": seen[None], "base_activation": guide["activation"]},
        np.random.default_rng(0),
    )
    assert_valid(space, child, (1, space.length))


def test_the_full_model_recorded_as_compact_agrees_with_the_criterion(space, guide, batches):
    model = space.build(space.base).eval()
    with torch.no_grad(), record(model, space.plan, space.base) as activations:
        for images, _ in batches:
            model(images)
    np.testing.assert_allclose(activations.mean(), guide["activation"], rtol=1e-4)
