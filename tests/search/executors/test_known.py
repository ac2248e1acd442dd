"""What is known is given without work, as events like any other; the rest goes to the executor inside."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluators.base import Candidate, Evaluation, Report, State
from search.budget import Budget
from search.executors.base import Finished, Reported, Started
from search.executors.inline import InlineExecutor
from search.executors.known import Known, KnownResults
from tests.search.loop_case import SPACE, Climbing, Counting, genomes, members, play, simulated


def candidate(id):
    return Candidate(id, np.full(24, id % 2, dtype=np.uint8), seed=id)


def even(candidate):
    """Every other candidate has been evaluated before, under another seed."""
    if candidate.id % 2:
        return None
    metrics = {"left": 5.0, "right": 7.0}
    result = Evaluation(
        replace(candidate, seed=99),
        State.COMPLETE,
        metrics,
        {"activation": np.ones(24)},
        worker="from before",
        attempts=0,
    )
    return Known(result, [Report({"left": 6.0}, 0), Report(metrics, 1)])


@pytest.fixture
def executor():
    evaluator = Counting()
    executor = KnownResults(InlineExecutor(), even)
    executor.start(SPACE, evaluator)
    executor.witnessed = evaluator.witnessed
    return executor


def test_who_is_known_gives_the_events_of_any_other_without_an_evaluation(executor):
    executor.submit([candidate(0), candidate(2)])
    events = executor.events()
    assert [type(event) for event in events] == [Started, Reported, Reported, Finished] * 2
    assert [event.report.step for event in events if isinstance(event, Reported)] == [0, 1, 0, 1]
    result = events[-1].evaluation
    assert (
        result.candidate.id == 2
        and result.candidate.seed == 99
        and result.worker == "from before"
        and result.seconds == 0
    )
    assert executor.events() == [] and executor.witnessed == []


def test_the_others_go_inside_and_only_they_can_be_withdrawn_or_cancelled(executor):
    executor.submit([candidate(id) for id in range(6)])
    executor.cancel(0)
    assert executor.withdraw() == [1, 3, 5]
    finished = [event.evaluation for event in executor.events() if isinstance(event, Finished)]
    assert [e.candidate.id for e in finished] == [0, 2, 4] and all(
        e.state is State.COMPLETE for e in finished
    )
    executor.submit([candidate(7), candidate(8)])
    assert {event.evaluation.candidate.id for event in executor.events() if isinstance(event, Finished)} == {
        8
    } and executor.witnessed == []
    ended = [event for _ in range(3) for event in executor.events() if isinstance(event, Finished)]
    assert [event.evaluation.candidate.id for event in ended] == [7] and executor.witnessed == [7]
    executor.submit([candidate(8)])
    executor.close()
    assert executor.events() == []


def from_another_run(candidate):
    """A third of all genomes is known, as if the other run had been evaluated by the same evaluator."""
    if candidate.genome.sum() % 3:
        return None
    (report,) = Counting().evaluate(None, candidate)
    metrics = {name: float(value) for name, value in report.metrics.items()}
    return Known(
        Evaluation(
            replace(candidate, seed=candidate.seed // 2),
            State.COMPLETE,
            metrics,
            report.arrays,
            worker="from before",
        )
    )


def test_strict_order_gives_the_same_run_on_any_number_of_workers():
    def run(inner):
        evaluator = Counting()
        loop = play(Budget(evaluations=120), KnownResults(inner, from_another_run), evaluator=evaluator)[1]
        told = [(e.candidate.id, e.candidate.seed, e.metrics) for _, e in loop.ledger.evaluations()]
        return loop, sorted(told), evaluator.witnessed

    alone, told, witnessed = run(InlineExecutor())
    known = {c.id for c in alone.ledger.candidates() if c.genome.sum() % 3 == 0}
    assert 10 < len(known) < 110 and not known & set(witnessed) and len(witnessed) + len(known) == 120
    assert alone.ledger.evaluated_by("from before") == len(known)
    for workers in (1, 7, 50):
        loop, others, again = run(simulated(workers))
        assert genomes(loop.ledger) == genomes(alone.ledger) and members(loop) == members(alone)
        assert others == told and sorted(again) == sorted(witnessed)
    plain = play(Budget(evaluations=120))[1]
    assert genomes(plain.ledger) == genomes(alone.ledger), "who knows less finds the same"


def test_a_strategy_may_stop_who_is_known_at_one_of_the_reports():
    class Strict(Climbing):
        def should_stop(self, candidate, report):
            return report.metrics["left"] == 6.0

    _, loop = play(
        Budget(evaluations=8), KnownResults(InlineExecutor(), even), strategy=Strict(), evaluator=Counting()
    )
    states = {e.candidate.id: (e.state, e.metrics) for _, e in loop.ledger.evaluations()}
    assert states[0] == (State.PRUNED, {"left": 6.0}) and states[1][0] is State.COMPLETE
