from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from evaluators import Arrays, Candidate, Digits, Quality
from evaluators.testing import EvaluatorContract
from operators.repair.batchnorm import recalibrate
from spaces import ChannelSpace
from spaces.choices import ChoiceSpace, Integer
from spaces.errors import InputError
from spaces.models import Perceptron, ResidualNet

DIGITS = Digits()


@cache
def residual_space():
    torch.manual_seed(0)
    return ChannelSpace(ResidualNet((4, 6)), DIGITS.example())


class TestQualityContract(EvaluatorContract):
    def evaluator(self):
        return Quality(batch_size=100)

    def space(self):
        return residual_space()

    def data(self):
        return DIGITS


class Depths(ChoiceSpace):
    depth = Integer(1, 3)

    def build_from(self, depth):
        return Perceptron((64, *[5] * depth, 10))


class TestQualityOfChoices(EvaluatorContract):
    def evaluator(self):
        return Quality()

    def space(self):
        return Depths()

    def data(self):
        return DIGITS


def only(evaluator, space, genome):
    (report,) = evaluator.evaluate(space.build(genome), Candidate(0, genome))
    return report


@pytest.fixture(scope="module")
def space():
    return residual_space()


def test_it_is_the_error_on_the_search_split_after_recalibration(space):
    quality = Quality(batch_size=64)
    quality.bind(space, DIGITS)
    genome = space.sample(1, np.random.default_rng(1))[0]
    report = only(quality, space, genome)
    model = space.build(genome)
    recalibrate(model, DIGITS.batches("calibration", 64))
    images, labels = next(DIGITS.batches("search", 1000))
    with torch.no_grad():
        logits = model.eval()(images)
    assert report.metrics["error"] == pytest.approx(
        (logits.argmax(1) != labels).double().mean().item(), abs=1e-12
    )
    assert report.metrics["loss"] == pytest.approx(
        nn.functional.cross_entropy(logits.double(), labels).item(), rel=1e-5
    )
    assert report.metrics["accuracy"] == pytest.approx(1 - report.metrics["error"])


def test_recalibration_can_be_bounded_and_left_out(space):
    losses = []
    for quality in (
        Quality(),
        Quality(recalibration=None),
        Quality(batch_size=20, recalibration_batches=1),
        Quality(recalibration="train"),
    ):
        quality.bind(space, DIGITS)
        losses.append(only(quality, space, space.base).metrics["loss"])
    assert len(set(losses)) == 4


def test_activations_are_the_mean_absolute_ones_of_kept_loci():
    inputs = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    data = Arrays(inputs, np.arange(50) % 2)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    space, quality = ChannelSpace(model, data.example()), Quality(batch_size=7)
    quality.bind(space, data)
    genome = np.array([1, 0, 1, 1], dtype=np.uint8)
    activation = only(quality, space, genome).arrays["activation"]
    searched = torch.cat([x for x, _ in data.batches("search", 50)])
    expected = np.where(genome, model[0](searched).abs().mean(0).detach().numpy(), np.nan)
    assert activation.dtype == np.float16 and activation.shape == (4,)
    np.testing.assert_allclose(activation, expected, rtol=2e-3)


def test_activations_can_be_left_out(space):
    quality = Quality(record_activations=False)
    quality.bind(space, DIGITS)
    assert only(quality, space, space.base).arrays == {}


def test_activations_too_loud_for_half_precision_stay_finite():
    data = Arrays(np.full((50, 3), 1e6), np.arange(50) % 2)
    space, quality = ChannelSpace(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), data.example()), Quality()
    quality.bind(space, data)
    assert np.isfinite(only(quality, space, space.base).arrays["activation"]).all()


def test_the_test_split_is_never_read(space, monkeypatch):
    read = []
    original = Digits.batches
    monkeypatch.setattr(
        Digits, "batches", lambda self, split, *rest: read.append(split) or original(self, split, *rest)
    )
    quality = Quality()
    quality.bind(space, DIGITS)
    for _ in range(3):
        only(quality, space, space.base)
    assert sorted(read) == ["calibration", "search"]  # and these once a process


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 1}, "expected at least 2"),
        ({"recalibration": "test"}, "expected calibration, train or null"),
        ({"recalibration_batches": 0}, "expected at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Quality(**arguments)


def test_it_needs_data(space):
    with pytest.raises(InputError, match="Quality: no data"):
        Quality().bind(space)
