"""Times are taken while nobody slows the processor down."""

from evaluators.cost.pace import Pace


class Machine:
    """A clock, and a piece of work that takes as long as is said for every second."""

    def __init__(self, *seconds):
        self.now, self.seconds = 0.0, seconds

    def work(self):
        self.now += 1e-3 * self.seconds[min(int(self.now), len(self.seconds) - 1)]

    def sleep(self, seconds):
        self.now += seconds

    def pace(self):
        return Pace(self.work, lambda: self.now, self.sleep)


def test_a_slow_moment_is_waited_for():
    machine = Machine(1.0, 1.4, 1.4, 1.0)
    pace = machine.pace()
    pace.wait()
    assert machine.now < 0.1, "nothing is known to be slow yet"
    machine.now = 1.5
    pace.wait()
    assert 3 <= machine.now < 3.1
    pace.wait()
    assert machine.now < 3.1


def test_a_little_slower_is_no_reason_to_wait():
    machine = Machine(1.0, 1.1)
    pace = machine.pace()
    pace.wait()
    machine.now = 1.5
    pace.wait()
    assert machine.now < 1.6


def test_patience_has_an_end():
    machine = Machine(1.0, 1.5)
    pace = machine.pace()
    pace.wait()
    machine.now = 10.0
    pace.wait()
    assert 20 < machine.now < 40  # 5 seconds, and .6 of those since it was made
    before = machine.now
    pace.wait()
    assert machine.now < before + 0.1
