import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from operators.criteria import Activation, Criterion, Magnitude, Random, Taylor, score_all
from operators.testing import CriterionContract
from operators.testing.toys import ToyNet, toy_batches, toy_plan
from spaces.base import Segment
from spaces.channels.plan import SlicePlan
from spaces.errors import InputError


class TestRandom(CriterionContract):
    def criterion(self):
        return Random()


def test_random_depends_on_the_seed():
    scores = [Random(seed).score(ToyNet(), [], toy_plan(), cross_entropy)["conv"] for seed in (0, 1)]
    assert (scores[0] != scores[1]).all()


class Counting(Criterion):
    """Scores 0, 1, 2, ... through the genome, after the user's hand."""

    name = "counting"

    def __init__(self, change=lambda scores: scores):
        self.change = change

    def score(self, model, batches, plan, loss):
        return self.change(
            {name: torch.arange(part.start, part.stop).float() for name, part in plan.starts.items()}
        )


PLAN = SlicePlan((Segment("b", 3), Segment("a", 2)), (), (), (), (), (), (), ())


def score(*criteria, plan=PLAN, batches=()):
    return score_all(criteria, ToyNet(), batches, plan, lambda o, t: cross_entropy(o, t, reduction="none"))


def test_segments_in_the_order_of_the_genome():
    reordered = Counting(lambda scores: dict(reversed(scores.items())))
    flat = score(reordered)["counting"]
    assert flat.dtype == np.float64
    assert flat.tolist() == [0, 1, 2, 3, 4]


def test_one_stream_of_batches_serves_all_criteria():
    guide = score(Magnitude(), Taylor(), Activation(), Random(), plan=toy_plan(), batches=iter(toy_batches()))
    assert list(guide) == ["magnitude", "taylor", "activation", "random"]
    assert all(scores.shape == (6,) and (scores > 0).all() for scores in guide.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda scores: {"b": scores["b"]}, "no scores for segment 'a'"),
        (
            lambda scores: scores | {"a": torch.zeros(3)},
            r"segment 'a' needs 2 finite scores, got shape \(3,\)",
        ),
        (
            lambda scores: scores | {"a": torch.tensor([1.0, torch.nan])},
            "segment 'a' needs 2 finite scores, got some that are NaN",
        ),
    ],
)
def test_bad_scores_are_told(change, message):
    with pytest.raises(InputError, match=f"criterion 'counting': {message}"):
        score(Counting(change))


def test_names_differ():
    with pytest.raises(InputError, match="two have the name 'counting'"):
        score(Counting(), Counting())
