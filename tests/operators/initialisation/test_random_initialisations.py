import numpy as np
import pytest

from operators.initialisation import Sampled, UniformBudget
from operators.testing import InitialisationContract
from operators.testing.toys import ToySpace
from spaces.base import Segment
from spaces.errors import InputError


class TestUniformBudget(InitialisationContract):
    def initialisation(self):
        return UniformBudget()


class TestSampled(InitialisationContract):
    def initialisation(self):
        return Sampled()


def test_budgets_are_spread_over_the_range():
    space = ToySpace((Segment("a", 2000),))
    shares = UniformBudget(0.2, 0.9)(space, 300, {}, np.random.default_rng(0)).mean(axis=1)
    assert shares.min() > 0.15
    assert shares.max() < 0.95
    assert np.histogram(shares, 7, (0.2, 0.9))[0].min() > 20


def test_sampled_is_what_the_space_samples():
    space = ToySpace()
    assert (
        Sampled()(space, 9, {}, np.random.default_rng(5)) == space.sample(9, np.random.default_rng(5))
    ).all()


def test_impossible_budget():
    with pytest.raises(InputError, match="min_keep"):
        UniformBudget(0.9, 0.1)
