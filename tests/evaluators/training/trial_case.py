"""A small trial that draws random numbers wherever one can, for the tests of resuming, and one that gets
killed.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import nn

from evaluators import Candidate, Digits, TrialTraining
from evaluators.tic import TIC
from spaces import TrialSpace

EPOCHS = 5
STOPS = (3, 2)
"""Epoch and batch in which it waits to be killed."""


class Shift(nn.Module):
    """Adds what no checkpoint of a state_dict has."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.randn(12), persistent=False)

    def forward(self, x):
        return x + self.shift


def net(width=12, dropout=0.3):
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, width),
        Shift(),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(width, 10),
    )


def space():
    return TrialSpace(
        {
            "training.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
            "training.optimiser": {"choices": ["adamw", "sgd"]},
            "training.weight_decay": {
                "low": 1e-5,
                "high": 1e-1,
                "log": True,
                "when": {"training.optimiser": "sgd"},
            },
            "model.dropout": {"low": 0.0, "high": 0.5},
        },
        model=net,
    )


def evaluator(data=None, **settings):
    made = TrialTraining(
        **{"epochs": EPOCHS, "batch_size": 32, "tic": TIC("trace"), "bias_samples": 32} | settings
    )
    made.bind(space(), data or Digits(train_samples=120))
    return made


def genome(optimiser="adamw"):
    params = {"training.learning_rate": 0.02, "training.optimiser": optimiser, "model.dropout": 0.25}
    return space().encode(params | ({"training.weight_decay": 1e-3} if optimiser == "sgd" else {}))


def start(made, candidate):
    """Build and evaluate as a worker does, in this very generator of torch: yields reports, and the model at
    last.
    """
    torch.manual_seed(candidate.seed)
    model = made.space.build(candidate.genome)
    yield from made.evaluate(model, candidate)
    yield model


def told(made, candidate):
    """All reports as plain values, the weights at the end, and what torch draws next."""
    *reports, model = start(made, candidate)
    return [(r.step, r.metrics) for r in reports], weights(model), torch.rand(3).tolist()


def weights(model):
    return {name: tensor.clone() for name, tensor in [*model.state_dict().items(), *model.named_buffers()]}


def same(one, other):
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys() and all(
        torch.equal(one[1][name], other[1][name]) for name in one[1]
    )
    assert one[2] == other[2], "what torch draws afterwards differs"


def stopped(made, candidate, epochs):
    """Evaluate until a strategy has seen so many reports."""
    reports = start(made, candidate)
    for _ in range(epochs):
        next(reports)
    reports.close()


def with_state(folder, **settings):
    made = evaluator(**settings)
    made.state = folder
    return made


class Waiting(Digits):
    """Digits that stop in the middle of an epoch and say so."""

    epoch = 0

    def batches(self, split, size, generator=None):
        self.epoch += generator is not None
        for number, batch in enumerate(super().batches(split, size, generator)):
            if generator is not None and (self.epoch, number) == STOPS:
                print("waiting", flush=True)
                time.sleep(600)  # until it is killed
            yield batch


def wait_to_be_killed(folder):
    torch.set_num_threads(1)
    killed = evaluator(Waiting(train_samples=120))
    killed.state = Path(folder)
    for report in start(killed, Candidate(4, genome(), seed=7)):
        print(report.step, flush=True)
