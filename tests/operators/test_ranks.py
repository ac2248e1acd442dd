import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import rankdata

from operators.ranks import segment_ranks
from operators.testing.toys import ToySpace
from spaces.base import Segment

SPACE = ToySpace((Segment("a", 5), Segment("b", 1), Segment("c", 4)))


def test_known_answer():
    scores = np.array([1, 1000, 10, 100, 0, 7, 3, 3, 1, np.nan])
    np.testing.assert_allclose(segment_ranks(SPACE, scores), [0.25, 1, 0.5, 0.75, 0, 0.5, 0.75, 0.75, 0, 0.5])


def test_nothing_known_lies_in_the_middle():
    assert (segment_ranks(SPACE, np.full(10, np.nan)) == 0.5).all()
    assert (segment_ranks(SPACE, np.full(10, 3.0)) == 0.5).all()


@given(hnp.arrays(np.float64, (3, 10), elements=st.sampled_from([-2.0, 0.0, 0.5, 1.0, 9.0, np.inf, -np.inf])))
def test_agrees_with_scipy(scores):
    ranks = segment_ranks(SPACE, scores)
    for part, size in zip(SPACE.slices.values(), (5, 1, 4), strict=True):
        expected = (rankdata(scores[:, part], axis=1) - 1) / (size - 1) if size > 1 else np.full((3, 1), 0.5)
        np.testing.assert_allclose(ranks[:, part], expected)


@given(
    hnp.arrays(np.float64, 10, elements=st.floats(-5, 5, width=16)), st.floats(0.1, 100), st.integers(0, 2)
)
def test_the_scale_of_a_segment_does_not_matter(scores, factor, segment):
    scaled = scores.copy()
    scaled[list(SPACE.slices.values())[segment]] *= factor
    np.testing.assert_array_equal(segment_ranks(SPACE, scaled), segment_ranks(SPACE, scores))
