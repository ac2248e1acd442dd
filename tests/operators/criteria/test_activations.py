import numpy as np
import pytest
import torch
from torch import nn

from operators.criteria import Activation, record
from operators.testing import CriterionContract
from operators.testing.toys import ToyNet, toy_batches, toy_plan
from spaces.base import Segment
from spaces.channels.plan import SlicePlan, Tap


class TestActivation(CriterionContract):
    def criterion(self):
        return Activation()


def plan_of(sizes, *taps):
    return SlicePlan(
        tuple(Segment(f"s{i}", size) for i, size in enumerate(sizes)), (), (), taps, (), (), (), ()
    )


def test_mean_absolute_values_over_samples_positions_and_batches():
    torch.manual_seed(0)
    model, batches = ToyNet().eval(), toy_batches()
    with torch.no_grad(), record(model, toy_plan()) as activations:
        for images, _ in batches:
            model(images)
        outputs = model.norm(
            model.conv(torch.cat([images for images, _ in batches]))
        )  # seen once more: the mean stays
    np.testing.assert_allclose(activations.mean(), outputs.abs().mean(dim=(0, 2, 3)).numpy(), rtol=1e-5)
    scores = Activation().score(model, batches, toy_plan(), lambda o, t: o)["conv"]
    np.testing.assert_allclose(scores, activations.mean(), rtol=1e-5)


def test_recording_ends_with_the_context():
    model = ToyNet().eval()
    with record(model, toy_plan()) as activations:
        model(toy_batches()[0][0])
    before = activations.mean()
    model(100 * toy_batches()[0][0])
    assert (activations.mean() == before).all()
    assert not model.norm._forward_hooks


def test_a_compact_model_reports_under_the_full_models_loci():
    full, compact = nn.Linear(1, 5, bias=False), nn.Linear(1, 3, bias=False)
    with torch.no_grad():
        full.weight[:, 0] = torch.tensor([1.0, -2.0, 3.0, -4.0, 5.0])
        compact.weight[:, 0] = full.weight[[0, 1, 4], 0]
    plan = plan_of([4], Tap("0", 1, np.array([-1, 2, 0, 1, 3])))
    model = nn.Sequential(compact)
    with record(model, plan, np.array([0, 0, 1, 1], dtype=np.uint8)) as activations:
        model(torch.ones(2, 1))
    np.testing.assert_array_equal(activations.mean(), [np.nan, np.nan, 2, 5])


def test_a_genome_that_does_not_fit_the_model_is_told():
    model = ToyNet()
    with (
        record(model, toy_plan(), np.array([1, 1, 0, 0, 0, 0], dtype=np.uint8)),
        pytest.raises(ValueError, match="'norm': 6 channels, but the genome keeps 2"),
    ):
        model(toy_batches()[0][0])
    assert not model.norm._forward_hooks


def test_taps_of_a_locus_are_averaged_and_segments_without_one_are_unknown():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    for layer, weight in zip(model, (2.0, 3.0), strict=True):
        nn.init.constant_(layer.weight, weight)
    plan = plan_of([1, 2], Tap("0", 1, np.array([0])), Tap("1", 1, np.array([0])))
    with record(model, plan) as activations:
        model(torch.ones(4, 1))
    np.testing.assert_array_equal(activations.mean(), [4, np.nan, np.nan])
    scores = Activation().score(model, [(torch.ones(4, 1), torch.ones(4))], plan, lambda o, t: o)
    assert scores["s1"].tolist() == [0, 0]


def test_half_precision_does_not_overflow():
    model = nn.Sequential(nn.Identity())
    with record(model, plan_of([2], Tap("0", 1, np.arange(2)))) as activations:
        model(torch.full((100, 2, 8, 8), 1000.0, dtype=torch.float16))
    np.testing.assert_allclose(activations.mean(), 1000)
