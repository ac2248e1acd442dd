import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from operators.draw import draw


@given(
    hnp.arrays(np.float64, (4, 9), elements=st.sampled_from([0.0, 1e-6, 0.3, 1.0, 1e6])),
    hnp.arrays(np.int64, 4, elements=st.integers(0, 12)),
    st.integers(0, 99),
)
def test_as_many_as_wanted_and_possible(weights, counts, seed):
    mask = draw(weights, counts, np.random.default_rng(seed))
    assert (mask.sum(axis=1) == np.minimum(counts, (weights > 0).sum(axis=1))).all()
    assert not mask[weights == 0].any()


def test_single_draws_are_in_proportion_to_the_weights():
    weights = np.tile([1.0, 2.0, 0.0, 5.0], (40_000, 1))
    shares = draw(weights, np.ones(40_000), np.random.default_rng(0)).mean(axis=0)
    np.testing.assert_allclose(shares, [1 / 8, 2 / 8, 0, 5 / 8], atol=0.01)


def test_pairs_are_drawn_one_after_the_other():
    weights = np.tile([1.0, 1.0, 2.0], (40_000, 1))
    without_last = 1 - draw(weights, np.full(40_000, 2), np.random.default_rng(0)).mean(axis=0)[2]
    assert abs(without_last - 2 * (1 / 4) * (1 / 3)) < 0.01
