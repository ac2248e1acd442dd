"""The trainings of examples/own_training.py: by Lightning, by the Trainer of transformers, by accelerate."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from evaluators import Arrays, OwnTraining

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 6)).astype(np.float32)
DATA = Arrays(X, (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0))


def example():
    spec = importlib.util.spec_from_file_location("own_training", ROOT / "examples" / "own_training.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.mark.parametrize(
    "way",
    [
        pytest.param("lightning", marks=pytest.mark.slow),  # its import alone takes seconds
        pytest.param("transformers", marks=pytest.mark.slow),
        "accelerate",
    ],
)
def test_another_trainer_lowers_the_loss_and_is_stopped_through_report(way):
    pytest.importorskip(way)
    training = OwnTraining(example().WAYS[way], epochs=3, learning_rate=0.02, batch_size=16)
    model = net()
    reports = list(training.fitted(model, DATA))
    losses = [report.metrics["loss"] for report in reports]
    assert [report.step for report in reports] == [1, 2, 3] and losses[-1] < losses[0]
    assert not any(torch.equal(a, b) for a, b in zip(model.parameters(), net().parameters(), strict=True))
    running = training.fitted(net(), DATA)
    assert next(running).step == 1
    running.close()  # as a pruner does
