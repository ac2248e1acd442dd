"""Times that nobody disturbed."""

import numpy as np

from evaluators.cost.pace import Pace, least


class Machine:
    """A clock, and a piece of work that takes longer while somebody disturbs."""

    def __init__(self):
        self.now, self.slow = 0.0, 1.0

    def work(self):
        self.now += 1e-4 * self.slow


def test_a_disturbance_shows_in_a_fixed_piece_of_work():
    machine = Machine()
    machine.slow = 1.4
    pace = Pace(machine.work, lambda: machine.now)
    assert pace.undisturbed(), "nothing faster is known yet"
    machine.slow = 1.0
    assert pace.undisturbed()
    machine.slow = 1.4
    assert not pace.undisturbed()
    machine.slow = 1.1
    assert pace.undisturbed()


def test_a_slow_moment_is_waited_for_but_not_for_ever():
    machine = Machine()
    pace = Pace(machine.work, lambda: machine.now)

    def work():
        machine.now += 1e-4 * (1.4 if 1 < machine.now < 3 or machine.now > 10 else 1.0)

    pace._work = work
    machine.now = 1.5
    assert pace.wait() and 3 <= machine.now < 3.01
    machine.now = 11.0
    assert not pace.wait()
    assert 12 < machine.now < 30
    before = machine.now
    assert not pace.wait() and machine.now < before + 0.1


class Listed:
    """Says whether anybody disturbs as it was told, before and after a measurement."""

    def __init__(self, *undisturbed):
        self.told = iter(undisturbed)

    def undisturbed(self):
        return next(self.told)

    wait = undisturbed


def test_what_was_disturbed_is_measured_again_and_nothing_else():
    first, second = iter([3.0, 2.0, 2.5, 2.2]), iter([7.0, 8.0])
    # round 1: both clean; 2: the first one disturbed afterwards; 3: it is disturbed before; 4: it is clean
    pace = Listed(True, True, True, True, True, False, True, True, False, True, True)
    np.testing.assert_array_equal(least([lambda: next(first), lambda: next(second)], pace), [2.0, 7.0])
    assert not [*first] and not [*second] and not [*pace.told]


def test_constant_disturbance_ends_after_some_rounds():
    calls = []
    found = least([lambda: calls.append(1) or 5.0], Listed(*[False] * 12))
    assert found.tolist() == [5.0] and len(calls) == 12
    assert least([], Listed()).shape == (0,)
