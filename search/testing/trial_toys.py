"""A hyper-parameter search whose learning curves are a formula, for tests of tuning strategies. Needs no
training and no Ray.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from evaluators.base import Candidate, Evaluator, Report
from search.problem import Objective, Problem
from spaces.trials import TrialSpace

PARAMETERS: dict[str, Any] = {
    "rate": {"low": 1e-4, "high": 1.0, "log": True},
    "width": {"low": 4, "high": 64},
    "kind": {"choices": ["plain", "momentum"]},
    "momentum": {"low": 0.0, "high": 0.99, "when": {"kind": "momentum"}},
}


class Curves(Evaluator):
    """Falling curves whose end depends on the parameters: best at a rate of .01; a rate above .9 diverges at
    the third step.
    """

    def __init__(self, epochs: int = 9) -> None:
        self.epochs: int = epochs
        self.metrics = ("train_loss", "loss", "tic_bias", "tic_error", "predicted_loss", "movement")
        self.steps: list[tuple[int, int]] = []

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        found = self.space.values(candidate.genome)  # type: ignore[attr-defined]
        end = abs(math.log10(found["rate"]) + 2) / 2 + (
            0.1 if found["kind"] == "plain" else 0.2 - 0.2 * found["momentum"]
        )
        for step in range(1, self.epochs + 1):
            self.steps.append((candidate.id, step))
            noise = 0.02 * float(torch.randn(()))
            train = end + 1 / step + noise
            if found["rate"] > 0.9 and step >= 3:
                train = math.nan
            bias = found["width"] / 640
            loss = {"train_loss": train, "loss": train + bias}
            yield Report(
                loss
                | {
                    "tic_bias": bias,
                    "tic_error": 0.01,
                    "predicted_loss": train + bias,
                    "movement": 0.1 * step,
                },
                step,
            )


def tuning_problem(
    objectives: tuple[str, ...] = ("loss",), parameters: Mapping[str, Any] = PARAMETERS, epochs: int = 9
) -> Problem:
    """Return the problem, its evaluator bound."""
    space, evaluator = TrialSpace(parameters), Curves(epochs)
    evaluator.bind(space)
    return Problem(space, evaluator, tuple(Objective.parse(text) for text in objectives))
