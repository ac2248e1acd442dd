import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.crossover import Uniform
from operators.testing import CrossoverContract
from operators.testing.toys import ToySpace
from spaces.errors import InputError


class TestUniform(CrossoverContract):
    def crossover(self, probability=1.0):
        return Uniform(probability=probability)


@given(st.integers(0, 2**32), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_every_allele_comes_from_a_parent(seed, n):
    space, rng = ToySpace(), np.random.default_rng(seed)
    first, second = space.sample(n, rng), space.sample(n, rng)
    for part in (space.slices["wide"], space.slices["narrow"]):
        first[:, part.start] = second[:, part.start] = 1  # nothing to repair
    child = Uniform(probability=1)(space, first, second, rng)
    assert ((child == first) | (child == second)).all()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_share_of_the_second_parent(share):
    space = ToySpace()
    first, second = np.zeros((2000, space.length), np.uint8), np.ones((2000, space.length), np.uint8)
    first[:, [0, 27]] = 1
    free = [i for i in range(space.length) if i not in (0, 27)]
    child = Uniform(share, probability=1)(space, first, second, np.random.default_rng(0))
    assert abs(child[:, free].mean() - share) < 0.01


def test_impossible_settings():
    for settings_ in ({"share": 1.1}, {"share": -0.1}, {"probability": 1.2}):
        with pytest.raises(InputError, match=f"Uniform: {next(iter(settings_))}"):
            Uniform(**settings_)
