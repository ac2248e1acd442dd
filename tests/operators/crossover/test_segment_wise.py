import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.crossover import SegmentWise
from operators.testing import CrossoverContract
from operators.testing.toys import ToySpace
from spaces.errors import InputError


class TestSegmentWise(CrossoverContract):
    def crossover(self, probability=1.0):
        return SegmentWise(probability=probability)


@given(st.integers(0, 2**32), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_every_segment_comes_whole_from_a_parent(seed, n):
    space, rng = ToySpace(), np.random.default_rng(seed)
    first, second = space.sample(n, rng), space.sample(n, rng)
    child = SegmentWise(probability=1)(space, first, second, rng)
    for part in space.slices.values():
        assert (
            (child[:, part] == first[:, part]).all(axis=1) | (child[:, part] == second[:, part]).all(axis=1)
        ).all()


def test_segments_are_drawn_independently():
    space = ToySpace()
    first, second = (np.full((4000, space.length), allele, np.uint8) for allele in (0, 1))
    first[:, [0, 27]] = 1
    child = SegmentWise(0.25, probability=1)(space, first, second, np.random.default_rng(0))
    from_second = np.stack([child[:, part.stop - 1] for part in space.slices.values()], axis=1)
    np.testing.assert_allclose(from_second.mean(axis=0), 0.25, atol=0.03)
    assert abs((from_second[:, 0] & from_second[:, 2]).mean() - 0.0625) < 0.02


def test_impossible_share():
    with pytest.raises(InputError, match="SegmentWise: share"):
        SegmentWise(2)
