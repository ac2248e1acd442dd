"""How a run ends, and how it goes on: kills, budgets, failures, interrupts, a full disk."""

from __future__ import annotations

import itertools
import signal
import time

import numpy as np
import pytest

from evaluators.base import State
from search.budget import Budget
from search.executors import InlineExecutor
from search.record.ledger import Ledger
from spaces.errors import InputError
from tests.search.loop_case import (
    SPACE,
    Climbing,
    Counting,
    Interrupting,
    Killed,
    Killing,
    genomes,
    members,
    play,
    simulated,
)
from tests.waiting import slowness


@pytest.mark.parametrize("order", ["strict", "arrival"])
def test_killed_again_and_again_it_evaluates_nothing_committed_twice_and_ends_with_the_same_run(
    tmp_path, order
):
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
        ledger._store._db.close()  # as a kill does: what is not committed is gone
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


# -- ends ----------------------------------------------------------------------------------------------------


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
    assert 0.6 < loop.elapsed < 5 * slowness() and time.monotonic() - began < 5 * slowness()


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
    def press(candidate):
        if candidate.id == 20:
            signal.raise_signal(signal.SIGINT)

    ledger = Ledger(None, SPACE)
    reason, _ = play(Budget(evaluations=50), None, ledger, evaluator=Counting(press))
    assert reason == "interrupted"
    assert ledger.counts()["evaluations"] == 20
    assert play(Budget(evaluations=50), None, ledger)[0] == "evaluations"


def test_a_full_disk_ends_it_with_everything_committed_kept(tmp_path):
    path = tmp_path / "ledger.db"
    ledger = Ledger(path, SPACE)
    pages = ledger._store._db.execute("PRAGMA page_count").fetchone()[0]
    ledger._store._db.execute(f"PRAGMA max_page_count = {pages + 20}")
    reason, loop = play(Budget(evaluations=5000), None, ledger)
    assert reason.startswith("disk full: ") and "free some space" in reason
    done = Ledger.reader(path).counts()["evaluations"]
    assert done >= 50
    ledger.close()
    evaluator = Counting()
    reason, loop = play(Budget(evaluations=done + 20), None, Ledger(path, SPACE), evaluator=evaluator)
    assert (reason, len(evaluator.witnessed), loop.restored) == ("evaluations", 20, done)


# -- listeners, pruning, settings ----------------------------------------------------------------------------
