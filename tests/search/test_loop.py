"""The loop: in order, on time, never twice; whatever happens to the process, the workers or the
candidates.
"""

from __future__ import annotations

import pytest

from evaluators.base import Candidate, State
from search.budget import Budget
from search.executors import Finished, InlineExecutor
from spaces.errors import InputError
from tests.search.loop_case import Climbing, Counting, Interrupting, genomes, members, play, simulated


def test_lag_1_is_the_sequential_algorithm():
    reason, loop = play(Budget(evaluations=5), simulated(8), lag=1, chunk=1)
    assert reason == "evaluations"
    steps = [(kind, i) for i in range(5) for kind in ("ask", "tell")]
    assert loop.strategy.calls == steps


def test_a_chunk_is_asked_after_exactly_the_results_that_the_lag_allows():
    _, loop = play(Budget(evaluations=40), simulated(7), lag=12, chunk=4)
    for place, (kind, id) in enumerate(loop.strategy.calls):
        if kind == "ask":
            told = [i for k, i in loop.strategy.calls[:place] if k == "tell"]
            assert told == list(range(max(0, id - 8)))


def test_strict_order_gives_the_same_run_on_any_number_of_workers():
    _, alone = play(Budget(evaluations=200))
    for workers, seed in ((1, 0), (3, 1), (16, 2), (100, 3)):
        _, loop = play(Budget(evaluations=200), simulated(workers, seed=seed))
        assert genomes(loop.ledger) == genomes(alone.ledger)
        assert members(loop) == members(alone)
        assert loop.strategy.told == list(range(200))
    _, other = play(Budget(evaluations=200), seed=1)
    assert genomes(other.ledger) != genomes(alone.ledger)


def test_arrival_order_tells_as_they_come_and_depends_on_timing():
    _, one = play(Budget(evaluations=100), simulated(8, seed=1), order="arrival")
    _, two = play(Budget(evaluations=100), simulated(8, seed=2), order="arrival")
    assert one.strategy.told == [e.candidate.id for _, e in one.ledger.evaluations()]
    assert sorted(one.strategy.told) == list(range(100)) != one.strategy.told
    assert one.strategy.told != two.strategy.told


def test_arrival_order_keeps_workers_busy_where_strict_order_cannot():
    shares = {}
    for order in ("strict", "arrival"):
        executor = simulated(16, spread=1.5)
        play(Budget(evaluations=800), executor, order=order, lag=32)
        shares[order] = executor.busy_share
    assert shares["arrival"] > 0.85 > shares["strict"]


class Watching:
    """Remembers how busy the workers were while there was something to ask."""

    def __init__(self, executor, until):
        self.executor, self.until, self.busy_share = executor, until, 0.0

    def tick(self, loop):
        if loop.asked < self.until:
            self.busy_share = self.executor.busy_share


def test_a_thousand_simulated_workers_stay_busy_in_strict_order():
    executor = simulated(1000, spread=0.5)
    watch = Watching(executor, until=5000)
    reason, loop = play(Budget(evaluations=5000), executor, lag=4000, chunk=50, listeners=[watch])
    assert reason == "evaluations" and sum(loop.states.values()) == 5000
    assert watch.busy_share > 0.85


# -- resume --------------------------------------------------------------------------------------------------


def test_listeners_hear_every_new_result_once_and_in_order():
    listener = Interrupting()
    _, loop = play(Budget(evaluations=50), simulated(9), listeners=[listener])
    assert [id for id, _ in listener.heard] == list(range(50))
    assert {e.candidate.id for e in loop.front.members} <= {id for id, joined in listener.heard if joined}
    again = Interrupting()
    play(Budget(evaluations=60), simulated(9), loop.ledger, listeners=[again])
    assert [id for id, _ in again.heard] == list(range(50, 60))


class Pruning(Climbing):
    def should_stop(self, candidate, report):
        return candidate.id % 3 == 0 and report.step == 1


@pytest.mark.parametrize("executor", [InlineExecutor, lambda: simulated(5)])
def test_a_pruned_candidate_ends_at_the_report_that_pruned_it(executor):
    evaluator = Counting(epochs=4)
    reason, loop = play(Budget(evaluations=30), executor(), strategy=Pruning(), evaluator=evaluator)
    assert reason == "evaluations"
    assert loop.states == {State.PRUNED: 10, State.COMPLETE: 20}
    for _, e in loop.ledger.evaluations():
        stopped = e.candidate.id % 3 == 0
        reports = loop.ledger.reports(e.candidate.id)
        assert [r.step for r in reports] == ([0, 1] if stopped else [0, 1, 2, 3])
        assert e.metrics == reports[-1].metrics
        assert (e.state is State.PRUNED) == stopped


class Coalescing(InlineExecutor):
    """Gives all events of a candidate at once, as a worker may that is quicker than a cancellation."""

    def events(self, timeout=None):
        events = super().events(timeout)
        while events and not isinstance(events[-1], Finished):
            events += super().events(timeout)
        return events


def test_a_candidate_that_is_quicker_than_its_cancellation_is_pruned_at_the_same_report():
    slow = play(Budget(evaluations=30), InlineExecutor(), strategy=Pruning(), evaluator=Counting(epochs=4))[1]
    quick = play(Budget(evaluations=30), Coalescing(), strategy=Pruning(), evaluator=Counting(epochs=4))[1]
    assert [(e.state, e.metrics) for _, e in slow.ledger.evaluations()] == [
        (e.state, e.metrics) for _, e in quick.ledger.evaluations()
    ]


@pytest.mark.parametrize(
    "settings", [{"lag": 10, "chunk": 4}, {"lag": 2, "chunk": 4}, {"chunk": 0}, {"order": "random"}]
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(InputError):
        play(Budget(evaluations=1), **settings)


@pytest.mark.parametrize("budget", [{"evaluations": 0}, {"seconds": -1.0}, {"stall": 0}, {"epochs": 0.0}])
def test_budgets_that_make_no_sense_are_refused(budget):
    with pytest.raises(InputError, match="expected more than 0"):
        Budget(**budget)


def test_it_holds_no_arrays_of_what_was_told():
    _, loop = play(Budget(evaluations=60))
    assert not loop._waiting and not loop._flying and not loop._old
    assert all(not e.arrays for e in loop.front.members)
    assert isinstance(next(loop.ledger.candidates()), Candidate)
