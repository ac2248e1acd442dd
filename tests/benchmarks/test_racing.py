"""Rules on recorded streams: what they see, stop and leave."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import racing
from evaluators.data import Segmentation


@pytest.fixture(scope="module")
def stream():
    """Candidates whose losses and costs are drawn; a few are good."""
    rng = np.random.default_rng(0)
    macs = rng.uniform(0.1, 1, 120)
    means = 0.2 / macs + rng.exponential(0.5, 120)
    difficulty = rng.lognormal(size=2000)
    noise = rng.lognormal(sigma=0.3, size=(120, 2000))
    return racing.Stream((means[:, None] * difficulty * noise).astype(np.float32), macs)


def test_racing_leaves_the_front_and_sees_less(stream):
    figures = racing.race(stream).figures(stream)
    assert figures["hypervolume"] > 0.999 and figures["wrong_stops"] <= 0.05
    assert figures["samples"] < 0.75 and figures["stopped"] > 0.3
    assert racing.race(stream, error=1e-9).samples > figures["samples"]


def test_controls_see_what_they_say(stream):
    assert racing.fixed(stream).figures(stream)["samples"] == 0.3
    halving = racing.halving(stream).figures(stream)
    assert halving["samples"] < 0.3 and halving["stopped"] > 0.8
    assert halving["hypervolume"] <= 1


def test_all_candidates_leave_all_of_the_hypervolume(stream):
    assert stream.hypervolume(np.arange(120)) == pytest.approx(1)
    assert stream.hypervolume(np.arange(60)) < 1
    assert stream.first(500).means == pytest.approx(stream.losses[:, :500].mean(axis=1), rel=1e-5)


def test_dice_of_the_recording_is_that_of_the_data():
    torch.manual_seed(0)
    outputs, targets = torch.randn(9, 4, 16, 16), torch.randint(0, 3, (9, 16, 16))
    task = Segmentation(4)
    expected = task.metrics(outputs, targets)["dice_error"]
    assert torch.allclose(racing.dice_errors(task, outputs, targets).float(), expected, atol=1e-6)
