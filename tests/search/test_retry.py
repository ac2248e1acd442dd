"""What failed is tried again once its cause is mended, and the run becomes what it would have been."""

from __future__ import annotations

import signal

import numpy as np
import pytest

from evaluators.base import Cause, Evaluator, Report, State
from operators.mutation import BitFlip
from search import Evolution, RandomSearch, Search
from search.budget import Budget
from search.finish import Finish
from search.front import Front
from search.record.ledger import Ledger
from search.record.retry import Retry
from search.strategies import Stages
from search.testing import BitSpace
from tests.search.loop_case import (
    SPACE,
    Climbing,
    Counting,
    Killed,
    Killing,
    genomes,
    members,
    play,
    simulated,
)


def broken(candidate):
    """The data are not mounted: all but a few candidates need them."""
    if candidate.id % 7:
        raise FileNotFoundError("/data/not-mounted.npz")


def rows(ledger):
    found = {e.candidate.id: (e.state, e.metrics) for _, e in ledger.evaluations()}
    return genomes(ledger), found


def test_a_mended_run_is_the_run_that_never_failed(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db", SPACE)
    evaluator = Counting(broken)
    reason, loop = play(Budget(evaluations=90), simulated(3), ledger, evaluator=evaluator)
    assert reason == "failures: FileNotFoundError: /data/not-mounted.npz"
    assert "run the same command again" in loop.tally.ending.advice
    known = {e.candidate.id for _, e in ledger.evaluations() if e.state is State.COMPLETE}
    before = {c.id: c.genome.tobytes() for c in ledger.candidates()}
    mended = Counting()
    reason, loop = play(Budget(evaluations=90), simulated(4), ledger, evaluator=mended)
    whole = play(Budget(evaluations=90))[1]
    assert reason == "evaluations" and rows(ledger) == rows(whole.ledger) and members(loop) == members(whole)
    same = {c.id for c in ledger.candidates() if before.get(c.id) == c.genome.tobytes()}
    assert len(known & same) >= 2 and not known & same & set(mended.witnessed), "paid for twice"
    assert {ledger.evaluation(id).attempts for id in range(1, 7)} == {2}, "attempts are not counted"
    assert Retry.load(ledger) is None
    again = play(Budget(evaluations=120), None, ledger)[1]
    assert members(again) == members(play(Budget(evaluations=120))[1]), "the resume of the resumed"


def test_what_fails_again_is_tried_once_a_call(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db", SPACE)
    for call in (1, 2, 3):
        evaluator = Counting(broken)
        assert play(Budget(evaluations=90), None, ledger, evaluator=evaluator)[0].startswith("failures: ")
        assert len(evaluator.witnessed) == len(set(evaluator.witnessed)) < 60
        failed = [e for _, e in ledger.evaluations() if e.state is State.FAILED]
        assert failed and {e.attempts for e in failed if e.candidate.id < 16} == {call}


@pytest.mark.parametrize("order", ["strict", "arrival"])
def test_killed_again_and_again_while_it_tries_again(tmp_path, order):
    path = tmp_path / "ledger.db"
    play(Budget(evaluations=70), simulated(5), Ledger(path, SPACE), evaluator=Counting(broken), order=order)
    rng = np.random.default_rng(0)
    for kill in range(100):
        ledger = Ledger(path, SPACE)
        executor = Killing(simulated(5, seed=kill), int(rng.integers(1, 15)))
        try:
            loop = play(Budget(evaluations=70), executor, ledger, order=order)[1]
            break
        except Killed:
            ledger._store._db.close()
    assert kill > 3
    states = {e.state for _, e in ledger.evaluations()}
    assert states == {State.COMPLETE} and ledger.counts()["evaluations"] == 70
    if order == "strict":
        assert rows(ledger) == rows(play(Budget(evaluations=70))[1].ledger)
    again = play(Budget(evaluations=70), None, Ledger(path, SPACE), order=order)[1]
    assert members(again) == members(loop) and again.restored == 70, "the replay is not the run"
    assert again.strategy.told == loop.strategy.told or order == "strict"


def test_in_order_of_arrival_the_mended_run_can_be_replayed(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db", SPACE)
    play(Budget(evaluations=80), simulated(6), ledger, evaluator=Counting(broken), order="arrival")
    known = {e.candidate.id: e for _, e in ledger.evaluations() if e.state is State.COMPLETE}
    reason, loop = play(Budget(evaluations=80), simulated(6, seed=1), ledger, order="arrival")
    assert reason == "evaluations" and loop.states == {State.COMPLETE: 80} and known
    assert loop.strategy.told == [e.candidate.id for _, e in ledger.evaluations()]
    replayed = play(Budget(evaluations=80), None, ledger, order="arrival")[1]
    assert replayed.strategy.calls == loop.strategy.calls[: len(replayed.strategy.calls)]


@pytest.mark.parametrize(
    ("budget", "kind"), [(Budget(evaluations=90, stall=5), "stall"), (Budget(), "exhausted")]
)
def test_whatever_limit_comes_first_a_run_of_failures_ended_in_failures(budget, kind):
    ledger = Ledger(None, SPACE)
    strategy = Climbing(size=12)
    evaluator = Counting(broken)
    assert play(budget, None, ledger, strategy, evaluator)[0].startswith("failures: "), kind
    reason, loop = play(budget, None, ledger, strategy)
    assert reason in ("stall", "exhausted") and loop.states[State.FAILED] == 0


def test_an_interrupt_at_the_sight_of_failures_does_not_make_them_last():
    ledger = Ledger(None, SPACE)

    def stop(candidate):
        broken(candidate)
        if candidate.id == 14:
            signal.raise_signal(signal.SIGINT)

    assert play(Budget(evaluations=60), None, ledger, evaluator=Counting(stop))[0] == "interrupted"
    assert ledger.counts()["failed"] > 5
    play(Budget(evaluations=60), None, ledger)
    assert rows(ledger) == rows(play(Budget(evaluations=60))[1].ledger)


def test_a_strategy_that_asks_less_when_it_is_mended_drops_what_it_no_longer_asks():
    class Repeating(Climbing):
        """Asks everything that failed once more, and ends."""

        def ask(self, n):
            if self._asked < 16:
                return super().ask(n)
            left = [i for i in self.failed if i not in self.repeated][:n]
            self.repeated += left
            return [self._candidate(np.zeros(24, np.uint8), (i,), "again") for i in left]

        def start(self, problem, seed):
            super().start(problem, seed)
            self.failed, self.repeated = [], []

        def tell(self, evaluations):
            super().tell(evaluations)
            self.failed += [e.candidate.id for e in evaluations if e.state is State.FAILED]

    ledger = Ledger(None, SPACE)
    play(Budget(evaluations=40), None, ledger, Repeating(), Counting(broken), lag=4)
    assert ledger.counts()["candidates"] > 16
    assert play(Budget(evaluations=40), None, ledger, Repeating(), lag=4)[0] == "exhausted"
    assert ledger.counts() == {"candidates": 16, "evaluations": 16, "complete": 16, "failed": 0, "pruned": 0}


def test_few_failures_stay_as_they_were_told():
    ledger = Ledger(None, SPACE)

    def fail(candidate):
        if candidate.id in (3, 20):
            raise ValueError("too wide")

    play(Budget(evaluations=40), None, ledger, evaluator=Counting(fail))
    evaluator = Counting()
    play(Budget(evaluations=60), None, ledger, evaluator=evaluator)
    assert evaluator.witnessed == list(range(40, 60)) and ledger.evaluation(3).cause is Cause.ERROR


class Mounted(Evaluator):
    """Needs a file."""

    metrics = ("error",)

    def __init__(self, file):
        self.file = str(file)

    def settings(self):
        return {}

    def evaluate(self, model, candidate):
        with open(self.file):
            yield Report({"error": float(candidate.genome.sum())})


@pytest.mark.parametrize(
    "strategy",
    [lambda: Evolution(population=8), RandomSearch, lambda: Stages([Evolution(8, mutations=[BitFlip()])])],
)
def test_the_same_call_goes_on_when_the_file_is_there(tmp_path, strategy):
    def run(name):
        return Search(
            None,
            None,
            space=BitSpace(16, 2),
            evaluators=[Mounted(tmp_path / "data")],
            objectives=["error"],
            strategy=strategy(),
            directory=tmp_path / name,
            finish=Finish(members=0),
            lag=8,
            chunk=4,
            study=False,
        ).run(evaluations=40)

    (tmp_path / "data").touch()
    whole = run("whole")
    (tmp_path / "data").unlink()
    with pytest.raises(Exception, match="data"):
        run("run")  # the base model cannot be measured
    (tmp_path / "data").touch()
    assert run("run").table() == whole.table()


def test_of_equal_values_the_candidate_asked_first_is_on_the_front_whatever_comes_first():
    loop = play(Budget(evaluations=60))[1]
    results = [e for _, e in loop.ledger.evaluations()]
    fronts = []
    for order in (results, results[::-1]):
        front = Front(loop.problem)
        for evaluation in order:
            front.add(evaluation)
        fronts.append([e.candidate.id for e in front.members])
    assert fronts[0] == fronts[1]
