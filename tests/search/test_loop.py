"""The loop: in order, on time, never twice; whatever happens to the process, the workers or the candidates."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest

from evaluators.base import Candidate, Evaluator, Report, State
from search.budget import Budget
from search.executors import Finished, InlineExecutor, SimulatedExecutor
from search.ledger import Ledger
from search.loop import Loop
from search.problem import Objective, Problem
from search.strategy import Strategy
from search.testing import BitSpace
from spaces.errors import InputError

SPACE = BitSpace(24, segments=4)


class Counting(Evaluator):
    """Ones in the two halves, and a witness of every evaluation."""

    metrics = ("left", "right")

    def __init__(self, fail=lambda candidate: None, epochs=1):
        self.fail, self.epochs, self.witnessed = fail, epochs, []

    def evaluate(self, model, candidate):
        self.witnessed.append(candidate.id)
        self.fail(candidate)
        left, right = candidate.genome[:12].sum(), candidate.genome[12:].sum()
        for epoch in range(self.epochs):
            yield Report({"left": left + 0.1 * (self.epochs - 1 - epoch), "right": 12 - right}, epoch, {"activation": candidate.genome / 2})


class Climbing(Strategy):
    """Flips bits of the best told so far: what it asks depends on everything told, and on the order."""

    def __init__(self, size=math.inf):
        self.size = size

    def start(self, problem, seed):
        super().start(problem, seed)
        self.told, self.calls, self.parent = [], [], None

    def ask(self, n):
        self.calls.append(("ask", self._asked))
        candidates = []
        for _ in range(int(min(n, self.size - self._asked))):
            if self.parent is None:
                candidates.append(self._candidate(self.problem.space.sample(1, self.rng)[0]))
            else:
                flips = (self.rng.random(24) < 0.1).astype(np.uint8)
                candidates.append(self._candidate(self.parent.candidate.genome ^ flips, (self.parent.candidate.id,), "flip"))
        return candidates

    def tell(self, evaluations):
        for e in evaluations:
            self.told.append(e.candidate.id)
            self.calls.append(("tell", e.candidate.id))
            if e.state is State.COMPLETE and (self.parent is None or self.cost(e) <= self.cost(self.parent)):
                self.parent = e

    def cost(self, e):
        # arrays come back from the ledger as they were
        return e.metrics["left"] + e.metrics["right"] + 1e-9 * float(e.arrays["activation"].sum())


def problem(evaluator=None, space=SPACE):
    evaluator = evaluator or Counting()
    evaluator.bind(space)
    return Problem(space, evaluator, (Objective("left"), Objective("right")))


def simulated(workers, spread=1.0, seed=0):
    return SimulatedExecutor(workers, lambda c: float(np.random.default_rng((seed, c.id)).lognormal(0, spread)))


def play(budget, executor=None, ledger=None, strategy=None, evaluator=None, **settings):
    ledger = ledger or Ledger(None, SPACE)
    settings = {"lag": 16, "chunk": 4} | settings
    loop = Loop(problem(evaluator), strategy or Climbing(), executor or InlineExecutor(), ledger, budget, **settings)
    return loop.run(), loop


def genomes(ledger):
    return [(c.id, c.parents, c.operator, c.seed, c.genome.tobytes()) for c in ledger.candidates()]


def members(loop):
    return [(e.candidate.id, e.metrics) for e in loop.front.members]


class Killed(BaseException):
    pass


class Killing:
    """An executor whose process dies at its n-th call for events."""

    def __init__(self, inner, n):
        self.inner, self.left = inner, n

    def events(self, timeout=None):
        self.left -= 1
        if self.left < 0:
            raise Killed
        return self.inner.events(timeout)

    def __getattr__(self, name):
        return getattr(self.inner, name)


# -- order ----------------------------------------------------------------------------------------------------------------


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


# -- resume ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["strict", "arrival"])
def test_killed_again_and_again_it_evaluates_nothing_committed_twice_and_ends_with_the_same_run(tmp_path, order):
    path = tmp_path / "ledger.db"
    whole = play(Budget(evaluations=90), simulated(5), order=order)[1]
    rng = np.random.default_rng(0)
    committed: set[int] = set()
    for kill in itertools.count():
        ledger = Ledger(path, SPACE)
        evaluator = Counting()
        executor = Killing(simulated(5, seed=kill), int(rng.integers(1, 40)))
        try:
            _, loop = play(Budget(evaluations=90), executor, ledger, evaluator=evaluator, order=order)
            ended = True
        except Killed:
            ended = False
        assert not committed & set(evaluator.witnessed)
        ledger._db.close()  # as a kill does: what is not committed is gone
        now = {e.candidate.id for _, e in Ledger(path, SPACE).evaluations()}
        assert committed <= now
        committed = now
        if ended:
            break
    assert kill > 3
    assert committed == set(range(90))
    if order == "strict":
        assert genomes(Ledger(path, SPACE)) == genomes(whole.ledger)
        assert members(loop) == members(whole)
    again = play(Budget(evaluations=90), None, Ledger(path, SPACE), order=order)[1]
    assert members(again) == members(loop)
    assert again.restored == 90


def test_a_complete_run_starts_no_worker(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db", SPACE)
    play(Budget(evaluations=30), None, ledger)
    executor = InlineExecutor()
    reason, loop = play(Budget(evaluations=30), executor, ledger)
    assert reason == "evaluations"
    assert not hasattr(executor, "_space")
    assert loop.states[State.COMPLETE] == 30 and loop.feasible == 30


@pytest.mark.parametrize("first", [1, 30, 32, 50])
def test_a_larger_budget_continues_to_the_run_it_would_have_given_at_once(first):
    ledger = Ledger(None, SPACE)
    assert play(Budget(evaluations=first), simulated(3), ledger)[0] == "evaluations"
    assert ledger.counts()["candidates"] == first
    evaluator = Counting()
    _, loop = play(Budget(evaluations=75), simulated(6), ledger, evaluator=evaluator)
    whole = play(Budget(evaluations=75))[1]
    assert sorted(evaluator.witnessed) == list(range(first, 75))
    assert genomes(ledger) == genomes(whole.ledger)
    assert members(loop) == members(whole)


def test_a_smaller_budget_keeps_what_was_paid_for():
    ledger = Ledger(None, SPACE)
    whole = play(Budget(evaluations=50), None, ledger)[1]
    reason, loop = play(Budget(evaluations=10), None, ledger)
    assert reason == "evaluations" or loop.restored == 50
    assert members(loop) == members(whole)


def test_what_the_ledger_does_not_expect_is_refused(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db", SPACE)
    play(Budget(evaluations=30), None, ledger)
    with pytest.raises(InputError, match=r"candidate 0 has another genome"):
        play(Budget(evaluations=30), None, ledger, seed=1)
    with pytest.raises(InputError, match=r"candidate 10 is in the ledger"):
        play(Budget(evaluations=30), None, ledger, strategy=Climbing(size=10))
    assert ledger.counts()["candidates"] == 30


# -- ends -----------------------------------------------------------------------------------------------------------------


def test_an_exhausted_space_ends_it():
    reason, loop = play(Budget(), simulated(3), strategy=Climbing(size=21))
    assert reason == "exhausted" == loop.ledger.note("ended")
    assert loop.states[State.COMPLETE] == 21
    assert play(Budget(evaluations=21), strategy=Climbing(size=21))[0] == "evaluations"


def test_stall_ends_it_at_the_same_point_on_any_number_of_workers():
    reason, alone = play(Budget(stall=40))
    assert reason == "stall"
    for workers in (3, 50):
        reason, loop = play(Budget(stall=40), simulated(workers))
        assert reason == "stall"
        assert genomes(loop.ledger) == genomes(alone.ledger)
        assert loop.states == alone.states
    assert play(Budget(stall=40), None, alone.ledger)[0] == "stall"


def test_seconds_end_it_and_count_over_calls():
    ledger = Ledger(None, SPACE)
    slow = Counting(fail=lambda candidate: time.sleep(0.02))
    reason, loop = play(Budget(seconds=0.3), None, ledger, evaluator=slow)
    assert reason == "seconds" == ledger.note("ended")
    assert 1 <= sum(loop.states.values()) <= 15
    evaluator = Counting()
    reason, loop = play(Budget(seconds=0.3), None, ledger, evaluator=evaluator)
    assert (reason, evaluator.witnessed) == ("seconds", [])
    assert loop.restored == len(slow.witnessed)
    assert play(Budget(seconds=30, evaluations=40), None, ledger)[0] == "evaluations"


class Hanging(InlineExecutor):
    """Starts a candidate and is never heard of again."""

    def events(self, timeout=None):
        time.sleep(min(timeout, 0.05))
        return []

    def withdraw(self):
        return []


def test_when_the_time_is_up_it_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr("search.loop._GRACE", (0.1, 0.5))
    began = time.monotonic()
    reason, loop = play(Budget(seconds=0.4), Hanging())
    assert reason == "seconds"
    assert 0.6 < loop.elapsed < 5 and time.monotonic() - began < 5


def fail_at(ids, error=None):
    def fail(candidate):
        if candidate.id in ids:
            raise error or ValueError("no such luck")

    return fail


def test_failures_are_recorded_and_the_search_goes_on():
    reason, loop = play(Budget(evaluations=60), evaluator=Counting(fail_at(set(range(0, 40, 2)))))
    assert reason == "evaluations"
    assert loop.states == {State.FAILED: 20, State.COMPLETE: 40}
    assert loop.ledger.evaluation(2).reason == "ValueError: no such luck"
    assert all(e.candidate.id % 2 or e.candidate.id >= 40 for e in loop.front.members)


@pytest.mark.parametrize("budget", [1000, 12])
def test_when_most_of_the_first_fail_it_ends_with_the_commonest_reason(budget):
    evaluator = Counting(lambda c: fail_at({c.id}, MemoryError() if c.id % 3 == 1 else KeyError("width"))(c))
    reason, loop = play(Budget(evaluations=budget), simulated(4), evaluator=evaluator)
    assert reason == "failures: KeyError: 'width'"
    assert loop.states[State.FAILED] <= 26 + 16


class Interrupting:
    def __init__(self, *ats):
        self.ats, self.heard, self.ticks = set(ats), [], 0

    def evaluated(self, evaluation, joined_front):
        self.heard.append((evaluation.candidate.id, joined_front))

    def tick(self, loop):
        self.ticks += 1
        if self.ticks in self.ats:
            loop.interrupt()


def test_an_interrupt_finishes_what_is_running_and_a_second_one_leaves():
    for ats, more in (((30,), 4), ((30, 31), 0)):
        ledger = Ledger(None, SPACE)
        executor = simulated(4)
        listener = Interrupting(*ats)
        reason, loop = play(Budget(evaluations=500), executor, ledger, listeners=[listener])
        assert reason == "interrupted" == ledger.note("ended")
        assert bool(loop.running) == (not more)
        done = ledger.counts()["evaluations"]
        assert 10 < done < 100
        assert len(loop.front) > 0
        evaluator = Counting()
        reason, resumed = play(Budget(evaluations=100), simulated(4), ledger, evaluator=evaluator)
        assert reason == "evaluations" and len(evaluator.witnessed) == 100 - done
        assert members(resumed) == members(play(Budget(evaluations=100))[1])


def test_an_interrupt_signal_in_the_middle_of_an_evaluation_loses_nothing_committed():
    ledger = Ledger(None, SPACE)
    reason, _ = play(Budget(evaluations=50), None, ledger, evaluator=Counting(fail_at({20}, KeyboardInterrupt())))
    assert reason == "interrupted"
    assert ledger.counts()["evaluations"] == 20
    assert play(Budget(evaluations=50), None, ledger)[0] == "evaluations"


def test_a_full_disk_ends_it_with_everything_committed_kept(tmp_path):
    path = tmp_path / "ledger.db"
    ledger = Ledger(path, SPACE)
    pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
    ledger._db.execute(f"PRAGMA max_page_count = {pages + 20}")
    reason, loop = play(Budget(evaluations=5000), None, ledger)
    assert reason.startswith("disk full: ") and "free some space" in reason
    done = Ledger.reader(path).counts()["evaluations"]
    assert done >= 50
    ledger.close()
    evaluator = Counting()
    reason, loop = play(Budget(evaluations=done + 20), None, Ledger(path, SPACE), evaluator=evaluator)
    assert (reason, len(evaluator.witnessed), loop.restored) == ("evaluations", 20, done)


# -- listeners, pruning, settings -----------------------------------------------------------------------------------------


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
    assert [(e.state, e.metrics) for _, e in slow.ledger.evaluations()] == [(e.state, e.metrics) for _, e in quick.ledger.evaluations()]


@pytest.mark.parametrize("settings", [{"lag": 10, "chunk": 4}, {"lag": 2, "chunk": 4}, {"chunk": 0}, {"order": "random"}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(InputError):
        play(Budget(evaluations=1), **settings)


@pytest.mark.parametrize("budget", [{"evaluations": 0}, {"seconds": -1.0}, {"stall": 0}])
def test_budgets_that_make_no_sense_are_refused(budget):
    with pytest.raises(InputError, match="expected more than 0"):
        Budget(**budget)


def test_it_holds_no_arrays_of_what_was_told():
    _, loop = play(Budget(evaluations=60))
    assert not loop._waiting and not loop._flying and not loop._old
    assert all(not e.arrays for e in loop.front.members)
    assert isinstance(next(loop.ledger.candidates()), Candidate)
