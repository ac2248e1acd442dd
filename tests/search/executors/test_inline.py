"""The in-process executor: one candidate after the other, time limits, cancelling, withdrawing."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from evaluators.base import Candidate, Cause, Evaluator, Report, State
from search.executors.base import Finished, Reported, Started
from search.executors.inline import InlineExecutor
from search.testing import BitSpace

SPACE = BitSpace(4)


class Steps(Evaluator):
    metrics = ("step",)

    def __init__(self, pause=lambda candidate, step: None):
        self.pause = pause

    def evaluate(self, model, candidate):
        for step in range(3):
            self.pause(candidate, step)
            yield Report({"step": step}, step)


def candidates(n):
    return [Candidate(i, np.zeros(4, np.uint8)) for i in range(n)]


def executor(evaluator=None, n=3, time_limit=None):
    inline = InlineExecutor(time_limit)
    inline.start(SPACE, evaluator or Steps())
    inline.submit(candidates(n))
    return inline


def drain(inline):
    events = []
    while new := inline.events(0.0):
        events += new
    return events


def outcomes(events):
    return {e.evaluation.candidate.id: e.evaluation for e in events if isinstance(e, Finished)}


def test_candidates_come_one_after_the_other():
    events = drain(executor())
    kinds = [(type(e), e.evaluation.candidate.id if isinstance(e, Finished) else e.id) for e in events]
    assert kinds == [
        (kind, i) for i in range(3) for kind in (Started, Reported, Reported, Reported, Finished)
    ]
    assert all(e.state is State.COMPLETE and e.metrics == {"step": 2.0} for e in outcomes(events).values())


def test_cancelled_at_a_report_it_ends_there():
    inline = executor()
    while not any(isinstance(e, Reported) and e.report.step == 1 for e in inline.events()):
        pass
    inline.cancel(0)
    inline.cancel(2)  # not running: nothing happens
    results = outcomes(drain(inline))
    assert [e.state for e in results.values()] == [State.PRUNED, State.COMPLETE, State.COMPLETE]
    assert results[0].metrics == {"step": 1.0}


def test_withdrawn_candidates_give_no_events():
    inline = executor(n=5)
    inline.events()
    assert inline.withdraw() == [1, 2, 3, 4]
    assert list(outcomes(drain(inline))) == [0]


def hang(candidate, step):
    if candidate.id == 1 and step == 1:
        while True:
            try:
                time.sleep(10)
            except Exception:
                continue


def test_a_hanging_candidate_fails_at_the_time_limit_and_the_others_are_unharmed():
    results = outcomes(drain(executor(Steps(hang), time_limit=0.3)))
    assert [e.state for e in results.values()] == [State.COMPLETE, State.FAILED, State.COMPLETE]
    assert results[1].reason == "exceeded the time limit of 0.3 s"
    assert [e.cause for e in results.values()] == [None, Cause.TIME_LIMIT, None]


def test_the_time_limit_is_for_a_candidate_and_only_while_it_works():
    slow = Steps(lambda candidate, step: time.sleep(0.15))
    inline = executor(slow, time_limit=0.3)
    results = outcomes(drain(inline))
    assert {e.state for e in results.values()} == {State.FAILED}  # three steps of .15
    inline = executor(Steps(lambda candidate, step: time.sleep(0.02)), n=2, time_limit=1.5)
    events = []
    while new := inline.events():
        events += new
        time.sleep(0.6)  # the caller's time
    assert {e.state for e in outcomes(events).values()} == {State.COMPLETE}


def test_outside_the_main_thread_there_is_no_limit():
    got = []
    thread = threading.Thread(
        target=lambda: got.extend(drain(executor(Steps(lambda c, s: time.sleep(0.02)), time_limit=0.01)))
    )
    thread.start()
    thread.join()
    assert {e.state for e in outcomes(got).values()} == {State.COMPLETE}


def test_it_starts_again_with_another_evaluator():
    inline = executor()
    drain(inline)

    class Other(Steps):
        metrics = ("other",)

        def evaluate(self, model, candidate):
            yield Report({"other": 7.0})

    inline.start(SPACE, Other())
    inline.submit(candidates(1))
    assert outcomes(drain(inline))[0].metrics == {"other": 7.0}


@pytest.mark.parametrize("timeout", [None, 0.0])
def test_with_nothing_to_do_it_does_not_wait(timeout):
    assert executor(n=0).events(timeout) == []
