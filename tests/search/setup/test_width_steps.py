"""Widths that are left to the runtime."""

import io

import numpy as np
import pytest
import torch
from rich.console import Console

from evaluators import Cost, Evaluator, Quality, Report
from evaluators.data import Digits
from search import RandomSearch, Search
from spaces import InputError
from spaces.models import Perceptron


class Timed(Evaluator):
    """Predicts a latency, and says which widths are fast."""

    screened = ("latency_ms",)

    def __init__(self, liked):
        self._liked = liked

    def settings(self):
        return {}

    def screen(self, genomes):
        return {"latency_ms": genomes.mean(axis=1)}

    def width_steps(self):
        return self._liked

    def evaluate(self, model, candidate):
        yield Report({})


@pytest.fixture
def search(tmp_path):
    torch.manual_seed(0)
    model, data = Perceptron((64, 12, 16, 10)), Digits(train_samples=100)

    def made(liked, goal="latency_ms", **changed):
        settings = {"directory": tmp_path / "run", "strategy": RandomSearch(), "study": False} | changed
        evaluators = [Cost(), Timed(liked), Quality()]
        return Search(model, data, evaluators=evaluators, objectives=["error", goal], **settings)

    return made


def widths(result):
    space = result.problem.space
    return {
        name: {int(member.candidate.genome[part].sum()) for member in result.front}
        for name, part in space.slices.items()
    }


def test_what_is_fast_is_taken_where_latency_counts_and_kept_by_the_run(search):
    first = search({"layers.0": 4}).run(evaluations=6)
    assert widths(first)["layers.0"] <= {4, 8, 12}
    assert any(width % 4 for width in widths(first)["layers.2"])
    # the machine has changed its mind, the run has not
    again = search({"layers.0": 3, "layers.2": 5}).run(evaluations=12)
    assert again.counts["evaluations"] == 12
    assert widths(again)["layers.0"] <= {4, 8, 12}
    assert again.problem.space.fingerprint == first.problem.space.fingerprint


def test_where_latency_is_no_goal_all_widths_are_open(search):
    result = search({"layers.0": 4, "layers.2": 4}, goal="macs", directory=None).run(evaluations=8)
    assert any(width % 4 for width in widths(result)["layers.0"])


def test_the_plan_says_what_was_chosen(search):
    console = Console(file=io.StringIO(), width=100)
    console.print(search({"layers.0": 4, "layers.2": 4}, directory=None).plan())
    assert 'round_to: auto came to {"*": 4}' in console.file.getvalue()


def test_another_model_is_another_run_in_one_line(search):
    search({"layers.0": 4, "layers.2": 4}).run(evaluations=4)
    other = search({})
    other.preparation.model = Perceptron((64, 12, 10))  # it has no layers.2 that could be pruned
    with pytest.raises(InputError, match=r"belongs to another space.*layers\.2 is gone"):
        other.run(evaluations=8)


def test_a_run_of_before_goes_on_with_every_width(search):
    first = search({}).run(evaluations=4)
    again = search({"layers.0": 4}).run(evaluations=8)
    assert again.problem.space.fingerprint == first.problem.space.fingerprint
    assert np.isfinite([member.metrics["latency_ms"] for member in again.front]).all()
