"""A run that goes on from a snapshot is the run that was told everything again, and the undisturbed one."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from evaluators.base import Evaluator, Report, State
from operators.mutation import BitFlip, RandomPruning
from search import Evolution, Finish, FromRun, Ladder, PruningLines, RandomSearch, Search, Stages, Surrogate
from search.budget import Budget
from search.executors import InlineExecutor
from search.loop import Loop
from search.problem import Constraint, Objective, Problem
from search.record import snapshot
from search.record.ledger import Ledger
from search.record.snapshot import NAME, Snapshots
from search.strategy import Strategy
from search.testing import BitSpace
from tests.search.loop_case import Climbing, Counting, Killed, Killing, genomes, members, play, simulated

SPACE = BitSpace(24, segments=4)


class Shares(Evaluator):
    """Two shares, one of them screened, on three rungs."""

    screened, metrics, rungs = ("cost",), ("error",), 3

    def __init__(self, fail=lambda id: False):
        self.fail, self.seen = fail, []

    def screen(self, genomes):
        return {"cost": genomes.mean(axis=1)}

    def evaluate(self, model, candidate):
        self.seen.append(candidate.id)
        if self.fail(candidate.id):
            raise ValueError("no such luck")
        genome = candidate.genome
        noise = (candidate.id * 37 % 11) / 100
        yield Report(
            {"error": 1 - float(genome[:12].mean()) + noise},
            arrays={"activation": genome * np.float16(candidate.id % 5)},
        )


class Adaptive(BitFlip):
    """An operator that remembers how often it was called, and says nothing of it."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def _apply(self, space, genomes, guide, rng):
        self.calls += 1
        return super()._apply(space, genomes, guide, rng) if self.calls % 3 else genomes


class Annealed(Adaptive):
    """The same, which says it."""

    def state(self):
        return {"calls": self.calls}

    def restore(self, state):
        self.calls = state["calls"]


class Heated(Evolution):
    """Extends a strategy of ours by something of its own, without a word of it."""

    def start(self, problem, seed):
        super().start(problem, seed)
        self.heat = 0

    def ask(self, n):
        self.heat += 1
        self._mutations[0].probability = 1 / self.heat
        return super().ask(n)


def strategies():
    lines = PruningLines(
        lines=10, rounds=60, smallest=0.05, mutation=RandomPruning(), cost="cost", growth=1.0, brood=3
    )
    pruned = PruningLines(lines=2, rounds=12, mutation=RandomPruning(), cost="cost")
    return {
        "evolution": Evolution(population=8),
        "random": RandomSearch(),
        "ladder": Evolution(population=8, fidelity=Ladder(cohort=6)),
        "surrogate": Evolution(population=8, surrogate=Surrogate(trees=3)),
        "lines": lines,
        "stages": Stages([pruned, Evolution(population=8)]),
        "annealed": Evolution(population=8, mutations=[Annealed(), BitFlip()]),
        "adaptive": Evolution(population=8, mutations=[Adaptive(), BitFlip()]),
        "heated": Heated(population=8, mutations=[BitFlip()]),
    }


def problem(evaluator):
    evaluator.bind(SPACE)
    goals = (Objective("error"), Objective("cost"))
    limit = (Constraint.parse("cost <= 90%"),)
    return Problem(SPACE, evaluator, goals, limit, {"cost": 1.0, "error": 0.0})


def run(name, ledger, evaluations=120, executor=None, evaluator=None, **settings):
    """Run to the end of a budget; return the loop and how many results the strategy was told."""
    strategy = strategies()[name]
    told = []
    tell = strategy.tell
    strategy.tell = lambda results: (told.extend(results), tell(results))[1]
    settings = {"lag": 16, "chunk": 4, "seed": 3} | settings
    evaluator = evaluator or Shares()
    budget = settings.pop("budget", Budget(evaluations=evaluations))
    loop = Loop(problem(evaluator), strategy, executor or InlineExecutor(), ledger, budget, **settings)
    loop.run()
    return loop, len(told)


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Take snapshots of runs that are small."""
    monkeypatch.setattr(snapshot, "_EVERY", 8)
    monkeypatch.setattr(snapshot, "_SHARE", 0)
    monkeypatch.setattr("search.record.snapshot.Snapshots.due.__defaults__", (8,))


def results(ledger):
    return genomes(ledger), {e.candidate.id: (e.state, e.metrics) for _, e in ledger.evaluations()}


def apart(path):
    """Copy a ledger to where there is no snapshot."""
    folder = path.parent / "apart"
    folder.mkdir()
    return shutil.copy(path, folder / "ledger.db")


@pytest.mark.parametrize("name", strategies())
def test_a_resumed_run_is_the_undisturbed_one(tmp_path, name):
    whole, _ = run(name, Ledger(None, SPACE), 140)
    path = tmp_path / "ledger.db"
    for evaluations in (10, 40, 41, 96, 120, 140):  # within chunks, at their ends, in the pool of the first
        ledger = Ledger(path, SPACE)
        loop, told = run(name, ledger, evaluations)
        ledger.close()
    ledger = Ledger(path, SPACE)
    assert results(ledger) == results(whole.ledger) and members(loop) == members(whole)
    assert loop.states == whole.states and loop.feasible == whole.feasible
    assert (loop.tally.idle, loop.asked) == (whole.tally.idle, whole.asked)
    if name in ("adaptive", "heated"):
        assert not (tmp_path / NAME).exists() and told > 120, "it could not be put back"
    else:
        assert told < 60, "everything was told again"
    replayed, told = run(name, Ledger(apart(path), SPACE), 160)
    assert told > 120 and results(replayed.ledger) == results(run(name, ledger, 160)[0].ledger)


@pytest.mark.parametrize("order", ["strict", "arrival"])
def test_killed_again_and_again_it_ends_with_the_same_run(tmp_path, order):
    path = tmp_path / "ledger.db"
    rng = np.random.default_rng(1)
    whole, _ = run("evolution", Ledger(None, SPACE), executor=simulated(5), order=order)
    for kill in range(100):
        ledger = Ledger(path, SPACE)
        evaluator = Shares()
        known = {e.candidate.id for _, e in ledger.evaluations()}
        executor = Killing(simulated(5, seed=kill), int(rng.integers(4, 30)))
        try:
            loop, told = run("evolution", ledger, executor=executor, evaluator=evaluator, order=order)
            break
        except Killed:
            ledger._store._db.close()
        finally:
            assert not known & set(evaluator.seen), "paid for twice"
    assert kill > 3 and told < 100
    if order == "strict":
        assert results(ledger) == results(whole.ledger) and members(loop) == members(whole)
    replayed, told = run("evolution", Ledger(apart(path), SPACE), order=order)
    assert told >= 116 and members(replayed) == members(loop)
    assert replayed.strategy.rng.bit_generator.state == loop.strategy.rng.bit_generator.state


def test_failures_count_as_they_did(tmp_path):
    def fail(id):
        return id % 3 == 1

    path = tmp_path / "ledger.db"
    run("evolution", Ledger(path, SPACE), 60, evaluator=Shares(fail))
    loop, _ = run("evolution", Ledger(path, SPACE), 100, evaluator=Shares(fail))
    whole, _ = run("evolution", Ledger(None, SPACE), 100, evaluator=Shares(fail))
    assert loop.states == whole.states and members(loop) == members(whole)
    assert loop.states[State.FAILED] > 20


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"rng", b"gnr")),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"Secateur snapshot 1\n" + bytes(64)),
        lambda path: path.unlink(),
    ],
)
def test_a_damaged_snapshot_is_passed_over(tmp_path, spoil):
    path = tmp_path / "ledger.db"
    run("evolution", Ledger(path, SPACE), 100)
    spoil(tmp_path / NAME)
    loop, told = run("evolution", Ledger(path, SPACE))
    assert told >= 116 and members(loop) == members(run("evolution", Ledger(None, SPACE))[0])


def test_a_snapshot_of_something_else_is_passed_over(tmp_path, monkeypatch):
    path = tmp_path / "ledger.db"
    run("evolution", Ledger(path, SPACE), 60)
    early = tmp_path / "early.db"
    shutil.copy(path, early)
    (tmp_path / "other").mkdir()
    run("evolution", Ledger(tmp_path / "other" / "ledger.db", SPACE), 100, seed=4)
    late = (tmp_path / NAME).read_bytes()
    run("evolution", Ledger(path, SPACE), 100)
    pairs = ((path, tmp_path / "other" / NAME), (early, tmp_path / NAME))
    for source, snapshot_of in pairs:
        folder = tmp_path / f"mixed{source.stem}"
        folder.mkdir()
        shutil.copy(source, folder / "ledger.db")
        shutil.copy(snapshot_of, folder / NAME)
        loop, told = run("evolution", Ledger(folder / "ledger.db", SPACE))
        assert told >= 116 and members(loop) == members(run("evolution", Ledger(None, SPACE))[0])
    (tmp_path / NAME).write_bytes(late)
    monkeypatch.setattr("search.loop.metadata.version", lambda name: "another")
    assert run("evolution", Ledger(path, SPACE))[1] >= 116, "of another version"


def test_limits_before_the_snapshot_end_the_run_where_they_did(tmp_path):
    path = tmp_path / "ledger.db"
    whole, _ = run("evolution", Ledger(path, SPACE), 120)
    assert run("evolution", Ledger(path, SPACE), budget=Budget(stall=5))[1] > 100
    assert run("evolution", Ledger(path, SPACE), 70)[1] > 100
    assert members(run("evolution", Ledger(path, SPACE), 120)[0]) == members(whole)


def test_a_strategy_that_cannot_be_put_back_is_told_everything_again(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db", SPACE)
    play(Budget(evaluations=60), None, ledger)
    _, loop = play(Budget(evaluations=80), None, ledger)
    assert not (tmp_path / NAME).exists() and len(loop.strategy.told) >= 76
    assert members(loop) == members(play(Budget(evaluations=80))[1])


def test_a_strategy_whose_restore_fails_is_told_everything_again(tmp_path):
    class Forgetful(Climbing):
        def state(self):
            return self._counters()

        def restore(self, state):
            self._set_counters(state)
            self.told.append(-1)
            raise KeyError("what was it")

    ledger = Ledger(tmp_path / "ledger.db", SPACE)
    play(Budget(evaluations=60), None, ledger, Forgetful())
    assert (tmp_path / NAME).exists()
    _, loop = play(Budget(evaluations=80), None, ledger, Forgetful())
    assert -1 not in loop.strategy.told and members(loop) == members(play(Budget(evaluations=80))[1])


def test_a_state_that_cannot_be_kept_stops_nothing(tmp_path):
    class Careless(Climbing):
        def state(self):
            return {"told": {*self.told}} if len(self.told) < 40 else 1 / 0

        def restore(self, state):
            raise AssertionError("there is nothing to restore")

    ledger = Ledger(tmp_path / "ledger.db", SPACE)
    for evaluations in (60, 80):
        _, loop = play(Budget(evaluations=evaluations), None, ledger, Careless())
    assert not (tmp_path / NAME).exists() and members(loop) == members(play(Budget(evaluations=80))[1])


def test_failures_that_are_undone_leave_no_snapshot_of_them(tmp_path):
    def broken(candidate):
        if candidate.id > 2 and candidate.id % 9:
            raise OSError("gone")

    class Remembering(Climbing):
        def state(self):
            return self._counters()

        def restore(self, state):
            raise AssertionError("of what failed")

    ledger = Ledger(tmp_path / "ledger.db", SPACE)
    evaluator = Counting(broken)
    assert play(Budget(evaluations=90), None, ledger, Remembering(), evaluator)[0].startswith("failures")
    assert (tmp_path / NAME).exists()
    _, loop = play(Budget(evaluations=90), simulated(3), ledger, Remembering())
    assert members(loop) == members(play(Budget(evaluations=90))[1])


def test_a_search_that_begins_with_a_run_goes_on_from_its_snapshot(tmp_path):
    def search(name, initialisation=None):
        strategy = Evolution(population=6, initialisation=initialisation)
        return Search(
            None,
            None,
            space=BitSpace(24, 4),
            evaluators=[Shares()],
            objectives=["error", "cost"],
            strategy=strategy,
            directory=tmp_path / name,
            finish=Finish(members=0),
            lag=8,
            chunk=4,
            study=False,
        )

    search("first").run(evaluations=40)
    source = str(tmp_path / "first")
    whole = search("whole", FromRun(source, most=30)).run(evaluations=60)
    for evaluations in (12, 24, 60):
        parts = search("parts", FromRun(source, most=30)).run(evaluations=evaluations)
    assert (tmp_path / "parts" / NAME).exists() and parts.table() == whole.table()


def test_while_it_reads_it_tells_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("search.loop._TICK", 0.0)
    ledger = Ledger(tmp_path / "ledger.db", SPACE)
    play(Budget(evaluations=60), None, ledger)
    seen = []

    class Looking:
        def tick(self, loop):
            if loop.reading:
                seen.append((loop.asked, loop.recorded))

    play(Budget(evaluations=64), None, ledger, listeners=[Looking()])
    assert len(seen) > 5 and {total for _, total in seen} == {60} and seen == sorted(seen)


def test_a_snapshot_holds_plain_values_alone(tmp_path):
    snapshots = Snapshots(tmp_path / "ledger.db")
    state = {"a": [1, 2.5, None, "x", {"b": np.arange(3, dtype=np.int16)}], "n": float("nan"), "e": {}}
    snapshots.write(3, {"run": 1}, state)
    found = snapshots.read({"run": 1})
    assert str(found) == str(state) and found["a"][4]["b"].dtype == np.int16
    assert snapshots.read({"run": 2}) is None
    for bad in ({"a": object()}, {"a": np.array([object()])}, {"a": {1, 2}}):
        with pytest.raises(TypeError):
            snapshots.write(3, {}, bad)
    assert Snapshots(None).read({}) is None and not Snapshots(None).due(10**9)
    assert issubclass(Climbing, Strategy)
