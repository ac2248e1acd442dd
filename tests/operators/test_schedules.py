import math

import numpy as np
import pytest

from operators.schedules import (
    Decrease,
    Exponential,
    FinalN,
    Fixed,
    Increase,
    Never,
    Population,
    PruneAfter,
    Schedule,
)
from spaces.errors import InputError

ALL = [
    Decrease(),
    Decrease(as_published=True),
    Exponential(),
    FinalN(),
    Fixed(),
    Increase(),
    Never(),
    Population(),
    PruneAfter(),
]


def curve(schedule: Schedule, steps: int = 400, population: int = 10) -> np.ndarray:
    return np.array([schedule.probability(step, steps, population) for step in range(1, steps + 1)])


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("steps", [1, 7, 400])
def test_chances_are_chances(schedule, steps):
    chances = curve(schedule, steps)
    assert ((chances >= 0) & (chances <= 1)).all()


def test_values():
    assert (curve(Fixed(0.3)) == 0.3).all()
    assert (curve(Never()) == 0).all()
    assert curve(Increase(0.5))[[199, 399]].tolist() == [0.25, 0.5]
    assert curve(Decrease(0.5))[[199, 399]].tolist() == [0.25, 0.0]
    assert curve(Decrease(0.5, as_published=True))[199] == 0.5
    assert curve(Exponential(0.5))[399] == pytest.approx(0.5 * (1 - math.exp(-2)))
    assert curve(Population(0.5))[399] == pytest.approx(0.05)
    assert curve(FinalN(0.5))[[0, 299, 300, 399]].tolist() == [0, 0, 0.5, 0.5]
    assert (curve(FinalN(0.5)) > 0).sum() == 100
    assert np.flatnonzero(curve(PruneAfter(0.5))).tolist() == [399]


@pytest.mark.parametrize("kind", [Decrease, Exponential, FinalN, Fixed, Increase, Population, PruneAfter])
@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_p_beyond_0_to_1_is_refused(kind, p):
    with pytest.raises(InputError, match=f"{kind.__name__}: p .*0 to 1"):
        kind(p)


def test_a_share_of_nothing_is_refused():
    with pytest.raises(InputError, match="share 0"):
        FinalN(share=0)
