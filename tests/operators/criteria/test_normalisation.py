"""Scores that can be compared between groups."""

import numpy as np
import pytest

from operators.criteria.normalisation import normalised


def test_over_the_mean_every_group_has_the_mean_1():
    np.testing.assert_allclose(normalised(np.array([1.0, 2.0, 3.0]), "mean"), [0.5, 1.0, 1.5])
    assert not normalised(np.zeros(3), "mean").any()


def test_lamp_is_the_share_among_those_that_are_no_smaller():
    np.testing.assert_allclose(normalised(np.array([3.0, 1.0, 2.0]), "lamp"), [1.0, 1 / 14, 4 / 13])
    np.testing.assert_allclose(normalised(np.array([2.0, 2.0]), "lamp"), [0.5, 1.0])
    np.testing.assert_array_equal(normalised(np.zeros(2), "lamp"), [0.0, 0.0])


@pytest.mark.parametrize("size", [1, 2, 9])
def test_lamp_protects_the_last_of_a_group_and_knows_no_scale(size):
    scores = np.random.default_rng(0).random(size)
    found = normalised(scores, "lamp")
    assert found.max() == found[scores.argmax()] == 1.0
    np.testing.assert_allclose(normalised(1e6 * scores, "lamp"), found)
    assert (np.argsort(found) == np.argsort(scores)).all()
