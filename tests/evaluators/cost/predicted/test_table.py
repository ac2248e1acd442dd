"""A table gives back staircases that it has measured at some widths only."""

from math import ceil

import numpy as np
import pytest

from evaluators.cost.predicted.runtime import Took
from evaluators.cost.predicted.table import Table


def blocks(width, block):
    return ceil(width / block) * block


KERNELS = {
    "straight": lambda w: 0.01 + 0.002 * w,
    "blocks of 8": lambda w: 0.01 + 0.001 * blocks(w, 8),
    "blocks of 16": lambda w: 0.001 * blocks(w, 16),
    "slower off multiples of 4": lambda w: 0.001 * w * (1.0 if w % 4 == 0 else 1.6),
}


def table(largest, time):
    places = []

    def measure(asked):
        places.extend(asked)
        return [Took(time(*place)) for place in asked]

    return Table(largest, measure), places


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("largest", [5, 40, 256])
def test_stairs_along_one_width_are_kept(kernel, largest):
    made, places = table((largest,), kernel)
    widths = np.arange(1, largest + 1)
    expected = [kernel(w) for w in widths]
    np.testing.assert_allclose(made.look_up((1, 0))(widths[None]), expected, rtol=1e-9)
    assert len(places) == len(set(places)) <= 90


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_stairs_along_two_widths_are_kept(kernel):
    def time(a, b):
        return 1e-3 + kernel(a) * blocks(b, 8)

    made, places = table((96, 256), time)
    rng = np.random.default_rng(0)
    widths = np.stack([rng.integers(8, 97, 200), rng.integers(8, 257, 200)])
    expected = np.array([time(a, b) for a, b in widths.T])
    off = np.abs(made.look_up((1, 0))(widths) / expected - 1)
    assert np.median(off) < 0.01 and off.max() < 0.1
    assert len(places) < 500  # of 24,576


WAYS = {
    "all of them": lambda *widths: 1.0 if not any(w % 4 for w in widths) else 2.0,
    "each by itself": lambda *widths: 1.0 + sum(0.7 / (i + 1) for i, w in enumerate(widths) if w % 4),
    "the more the worse": lambda *widths: (1.0, 1.2, 2.5)[min(2, sum(w % 4 > 0 for w in widths))],
}


@pytest.mark.parametrize("ways", WAYS.values(), ids=WAYS)
def test_kernels_may_take_another_way_for_every_pair_of_multiples_of_4(ways):
    def time(a, b):
        return 1e-3 * blocks(a, 8) * (10 + b) * ways(a, b)

    made, _ = table((48, 160), time)
    every = np.stack([axis.ravel() for axis in np.meshgrid(np.arange(5, 49), np.arange(5, 161))])
    expected = np.array([time(a, b) for a, b in every.T])
    np.testing.assert_allclose(made.look_up((1, 0))(every), expected, rtol=0.1)


def test_with_three_widths_multiples_of_4_in_all_of_them_are_told_apart():
    def time(a, b, c):
        return 1e-6 * a * b * c * WAYS["all of them"](a, b, c)

    made, _ = table((16, 3, 32), time)  # 3 is no multiple, nor is anything below
    rng = np.random.default_rng(0)
    every = np.stack([rng.integers(1, w + 1, 300) for w in (16, 3, 32)])
    np.testing.assert_allclose(made.look_up((1, 0))(every), [time(*w) for w in every.T], rtol=0.1)
    made, _ = table((16, 8, 32), time)
    every = np.stack([rng.integers(1, w + 1, 300) for w in (16, 8, 32)])
    np.testing.assert_allclose(made.look_up((1, 0))(every), [time(*w) for w in every.T], rtol=0.1)


def test_factors_weigh_work_and_layout():
    made = Table((8,), lambda places: [Took(w, 10 * w) for (w,) in places])
    widths = np.array([[2, 8]])
    np.testing.assert_allclose(made.look_up((1, 0))(widths), [2, 8])
    np.testing.assert_allclose(made.look_up((0.5, 2))(widths), [41, 164])


def test_an_operation_without_widths_takes_what_it_takes():
    made = Table((), lambda places: [Took(3.0)] * len(places))
    np.testing.assert_array_equal(made.look_up((1, 1))(np.zeros((0, 2), dtype=int)), [3, 3])
