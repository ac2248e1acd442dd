import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from operators.stability import (
    entropy,
    intersection,
    jensen_shannon,
    lost_ground,
    null_threshold,
    window_divergences,
    window_means,
)


def distributions(seed: int, n: int = 6, operations: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(operations, 0.5), n)


def softmax(logits: np.ndarray) -> np.ndarray:
    chances = np.exp(logits)
    return chances / chances.sum(axis=-1, keepdims=True)


@given(st.integers(0, 10**6))
def test_it_is_the_square_of_scipys(seed):
    p, q = distributions(seed), distributions(seed + 1)
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2, axis=1) ** 2, abs=1e-12)
    assert jensen_shannon(p, q) == pytest.approx(jensen_shannon(q, p))


def test_known_values():
    assert jensen_shannon([1.0, 0.0], [0.0, 1.0]) == 1
    assert jensen_shannon([0.3, 0.7, 0.0], [0.3, 0.7, 0.0]) == 0
    assert entropy(np.array([[0.25] * 4, [1.0, 0, 0, 0]])).tolist() == [2, 0]
    assert intersection(np.array([0.5, 0.5, 0]), np.array([0.25, 0.5, 0.25])) == 0.75


def test_small_differences_are_not_lost_to_rounding():
    p = np.full(4, 0.25)
    for step in (1e-4, 1e-6, 1e-8):
        q = p + step * np.array([1, -1, 1, -1])
        assert jensen_shannon(p, q) == pytest.approx(step**2 * 4 / 0.25 / (8 * np.log(2)), rel=1e-3)


def test_windows_are_neighbours_and_do_not_overlap():
    rows = distributions(3, n=9)
    assert window_means(rows, 3)[-1] == pytest.approx(rows[6:].mean(axis=0))
    assert len(window_divergences(rows, 3)) == 4
    assert window_divergences(rows, 3)[-1] == pytest.approx(
        jensen_shannon(rows[6:].mean(axis=0), rows[3:6].mean(axis=0))
    )
    assert window_divergences(rows, 3)[0] == pytest.approx(
        jensen_shannon(rows[3:6].mean(axis=0), rows[:3].mean(axis=0))
    )
    assert len(window_divergences(rows[:5], 3)) == len(window_means(rows[:2], 3)) == 0


@pytest.mark.parametrize("null", ["noise", "walk"])
@pytest.mark.parametrize(("window", "operations"), [(3, 7), (5, 3)])
def test_what_only_noise_moves_is_called_stable_at_the_nominal_rate(null, window, operations):
    rng, runs, below = np.random.default_rng(0), 500, dict.fromkeys((0.5, 0.9), 0)
    for _ in range(runs):
        noise = rng.normal(scale=0.02, size=(2 * window, operations))
        rows = softmax(
            rng.normal(scale=0.5, size=operations) + (noise if null == "noise" else noise.cumsum(axis=0))
        )
        for level in below:
            below[level] += int(
                window_divergences(rows, window)[-1] <= null_threshold(rows, window, level, null)
            )
    for level, count in below.items():
        assert count / runs == pytest.approx(level, abs=0.05)


@pytest.mark.parametrize("null", ["noise", "walk"])
def test_a_drift_is_not_stable(null):
    rng, stable = np.random.default_rng(1), 0
    drift = np.linspace(-1, 1, 7) * 0.04
    for _ in range(100):
        rows = softmax(
            drift * np.arange(10)[:, None]
            + rng.normal(scale=0.02, size=(10, 7)).cumsum(axis=0) * (null == "walk") / 4
        )
        rows = rows if null == "walk" else softmax(np.log(rows) + rng.normal(scale=0.02, size=(10, 7)))
        stable += int(window_divergences(rows, 5)[-1] <= null_threshold(rows, 5, 0.95, null))
    assert stable <= 5


def test_without_noise_nothing_may_move():
    rows = softmax(np.tile([0.1, 0.2, 0.3], (6, 1)))
    assert null_threshold(rows, 3) == 0


KEPT = np.array([True, True, False, False, False, False, False])


@pytest.mark.parametrize("window", [3, 5])
def test_a_choice_loses_ground_at_the_nominal_rate_where_only_noise_moves_it(window):
    rng, lost = np.random.default_rng(2), 0
    for _ in range(500):
        walk = rng.normal(scale=0.02, size=(2 * window, 7)).cumsum(axis=0)
        lost += lost_ground(softmax(rng.normal(scale=0.5, size=7) + walk), KEPT, ~KEPT, window, 0.8)
    assert lost / 500 == pytest.approx(0.1, abs=0.04), "20 % are beyond the noise, half of these are gains"


def test_only_a_loss_to_what_would_be_dropped_counts():
    steps = np.arange(6)[:, None] + np.random.default_rng(3).normal(scale=0.1, size=(6, 1))
    to = {
        "the rest": [-1, -1, 1, 0, 0, 0, 0],
        "each other": [3, -3, 0, 0, 0, 0, 0],
        "the choice": [1, 1, -2, 0, 0, 0, 0],
        "within the rest": [0, 0, 3, -3, 0, 0, 0],
    }
    flat = np.full(7, 1 / 7)
    lost = {
        name: lost_ground(flat + 0.002 * steps * np.array(way), KEPT, ~KEPT, 3) for name, way in to.items()
    }
    assert lost == {"the rest": True, "each other": False, "the choice": False, "within the rest": False}


def test_a_loss_within_the_steps_of_noise_does_not_count():
    rng = np.random.default_rng(4)
    way = 0.0005 * np.arange(6)[:, None] * np.array([-1, -1, 1, 1, 0, 0, 0])
    noisy = [
        lost_ground(
            softmax(np.log(np.full(7, 1 / 7) + way) + rng.normal(scale=0.2, size=(6, 7)).cumsum(axis=0)),
            KEPT,
            ~KEPT,
            3,
        )
        for _ in range(100)
    ]
    assert sum(noisy) <= 10
    assert lost_ground(np.full(7, 1 / 7) + way + 1e-6 * rng.normal(size=(6, 7)), KEPT, ~KEPT, 3)
