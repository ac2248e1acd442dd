"""How long a search takes is told without doing what it would do."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from evaluators import Candidate, Cost, Digits, Evaluator, Report, TrialTraining
from evaluators.base import Evaluators
from search.budget import Budget
from search.problem import Objective, Problem
from search.setup.planning import make_plan
from spaces import TrialSpace
from spaces.models import Perceptron

DIGITS = Digits(train_samples=40)


class Counting(TrialTraining):
    """Tells how many epochs were trained."""

    done = 0

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        for report in super().evaluate(model, candidate):
            self.done += 1
            yield report


class Silent(Evaluator):
    """Finds nothing, in one report."""

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        yield Report({})


def narrow(width: int) -> nn.Module:
    return Perceptron((64, width, 10))


def planned(evaluator: Evaluator) -> float:
    space = TrialSpace({"model.width": {"low": 4, "high": 8}}, model=narrow)
    evaluator.bind(space, DIGITS)
    problem = Problem(space, evaluator, (Objective("loss"),))
    with torch.random.fork_rng():
        return make_plan(problem, {}, {}, [], 1, Budget(evaluations=1), seed=0).candidate_seconds


@pytest.mark.parametrize(
    "beside", [lambda t: t, lambda t: Evaluators([Cost(), Silent(), t]), lambda t: Evaluators([t, Silent()])]
)
def test_of_a_trial_an_epoch_is_timed_whatever_stands_beside_the_training(beside):
    training = Counting(epochs=500)
    seconds = planned(beside(training))
    assert training.done == 5 * 2  # two epochs of each of five trials, the first of which warms up
    assert 500 * 1e-5 < seconds < 500 * 1.0


def test_a_trial_of_one_epoch_is_timed_as_a_whole():
    training = Counting(epochs=1)
    assert planned(training) > 0
    assert training.done == 5
