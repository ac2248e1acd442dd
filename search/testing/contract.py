"""Toy problems whose best front is known, and the contract that every strategy keeps. Needs no training and
no Ray.

``class TestMine(StrategyContract)`` with a method ``strategy`` inherits all checks; pytest runs them.
"""

from __future__ import annotations

import itertools
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from evaluators.base import Candidate, Evaluation, Evaluator, Report, State
from search.ask_and_tell import declares_state
from search.problem import Constraint, Objective, Problem
from search.record.snapshot import Snapshots
from search.strategy import Strategy
from spaces.base import Segment, Space

Metrics = Callable[[np.ndarray], dict[str, np.ndarray]]
"""A population ``(n, length)`` to metrics, each ``(n,)``."""


class BitSpace(Space):
    """All bit strings of a length, in segments as even as possible. What it builds is a module that holds the
    bits.
    """

    def __init__(self, length: int, segments: int = 1) -> None:
        sizes = [len(part) for part in np.array_split(np.arange(length), segments)]
        self.segments = tuple(Segment(f"bits{i}", size) for i, size in enumerate(sizes))

    @property
    def fingerprint(self) -> str:
        return f"bits {[segment.size for segment in self.segments]}"

    @property
    def base(self) -> np.ndarray:
        return np.ones(self.length, dtype=np.uint8)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(0, 2, size=(n, self.length)).astype(np.uint8)

    def repair(self, genomes: np.ndarray) -> np.ndarray:
        return np.minimum(genomes, 1)

    def build(self, genome: np.ndarray) -> nn.Module:
        model = nn.Module()
        model.register_buffer("bits", torch.from_numpy(genome.copy()))
        return model

    def describe(self, genome: np.ndarray) -> dict[str, float | int | str]:
        return {name: float(genome[where].mean()) for name, where in self.slices.items()}


class Toy(Evaluator):
    """An evaluator whose metrics are a function of the genome alone, some of them screened."""

    def __init__(self, function: Metrics, metrics: Sequence[str], screened: Sequence[str] = ()) -> None:
        self.function, self.metrics, self.screened = function, tuple(metrics), tuple(screened)

    def screen(self, genomes: np.ndarray) -> dict[str, np.ndarray]:
        values = self.function(genomes)
        return {name: values[name] for name in self.screened}

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        values = self.function(candidate.genome[None])
        yield Report({name: float(values[name][0]) for name in self.metrics})


def leading_ones_trailing_zeros(genomes: np.ndarray) -> dict[str, np.ndarray]:
    """LOTZ (Laumanns et al. 2002): ``leading`` ones and ``trailing`` zeros, both to maximise, and the share
    of ``ones``.
    """
    leading = np.cumprod(genomes, axis=1).sum(axis=1)
    trailing = np.cumprod(1 - genomes[:, ::-1], axis=1).sum(axis=1)
    return {
        "leading": leading.astype(float),
        "trailing": trailing.astype(float),
        "ones": genomes.mean(axis=1),
    }


def lotz(length: int, constraints: Sequence[str] = ()) -> Problem:
    """Return LOTZ as a problem; without constraints its front is ``{(i, length - i)}``: i leading ones, the
    rest trailing zeros.

    ``ones`` is screened: ``"ones <= 50%"`` leaves the half of the front with ``i <= length / 2``.
    """
    objectives = (Objective("leading", maximise=True), Objective("trailing", maximise=True))
    evaluator = Toy(leading_ones_trailing_zeros, ("leading", "trailing"), ("ones",))
    base = {"leading": float(length), "trailing": 0.0, "ones": 1.0}
    return Problem(
        BitSpace(length, 4),
        evaluator,
        objectives,
        tuple(Constraint.parse(text) for text in constraints),
        base,
    )


def pruning(length: int, constraints: Sequence[str] = (), seed: int = 0) -> Problem:
    """Return a toy of pruning: every bit has a worth and a cost, ``error`` is the share of worth lost,
    ``macs`` the share of cost kept.

    Without interaction between the bits the front is the knapsack's; the guide holds the worths, disturbed,
    as ``magnitude``.
    """
    rng = np.random.default_rng(seed)
    worth, cost = rng.lognormal(size=length), rng.uniform(0.5, 1.5, length)

    def metrics(genomes: np.ndarray) -> dict[str, np.ndarray]:
        return {"error": 1 - genomes @ worth / worth.sum(), "macs": genomes @ cost / cost.sum()}

    evaluator = Toy(metrics, ("error", "macs"), ("macs",))
    guide = {"magnitude": worth * rng.lognormal(sigma=0.5, size=length)}
    parsed = tuple(Constraint.parse(text) for text in constraints)
    return Problem(
        BitSpace(length, 4),
        evaluator,
        (Objective("error"), Objective("macs")),
        parsed,
        {"error": 0.0, "macs": 1.0},
        guide,
    )


def evaluate(problem: Problem, candidates: Sequence[Candidate]) -> list[Evaluation]:
    """Evaluate candidates of a toy problem in process, without building models."""
    nothing = nn.Module()
    done = []
    for candidate in candidates:
        (report,) = problem.evaluator.evaluate(nothing, candidate)
        screened = {
            name: float(values[0])
            for name, values in problem.evaluator.screen(candidate.genome[None]).items()
        }
        done.append(Evaluation(candidate, State.COMPLETE, screened | report.metrics, report.arrays))
    return done


def play(
    strategy: Strategy, problem: Problem, budget: int, *, seed: int = 0, chunk: int = 8, lag: int = 8
) -> list[Evaluation]:
    """Run a strategy by the rule of the loop in strict order, in process: chunk j is asked after all chunks
    up to ``j - lag / chunk``.

    Returns the evaluations in order; fewer than `budget` where the strategy is exhausted.
    """
    strategy.start(problem, seed)
    chunks: list[list[Evaluation]] = []
    for j in itertools.count():
        if j >= (behind := max(lag // chunk, 1)):
            strategy.tell(chunks[j - behind])
        asked = strategy.ask(chunk) if j * chunk < budget else []
        if not asked:
            return list(itertools.chain.from_iterable(chunks))[:budget]
        chunks.append(evaluate(problem, asked))
    raise AssertionError("unreachable")


def points(problem: Problem, evaluations: Sequence[Evaluation]) -> set[tuple[float, ...]]:
    """Return the feasible non-dominated objective values (as minimised) among evaluations."""
    feasible = [e for e in evaluations if problem.violations([e])[0] == 0]
    values = np.unique(problem.values(feasible), axis=0)
    dominated = [(np.all(values <= row, axis=1) & np.any(values < row, axis=1)).any() for row in values]
    return {tuple(row) for row, lost in zip(values.tolist(), dominated, strict=True) if not lost}


class StrategyContract(ABC):
    """What the loop and resume rely on. Override ``problem`` where the strategy needs a certain one."""

    @abstractmethod
    def strategy(self) -> Strategy:
        """Return a new, small strategy (a population of about ten)."""

    def problem(self) -> Problem:
        return lotz(16)

    def started(self, problem: Problem, seed: int = 0) -> Strategy:
        strategy = self.strategy()
        strategy.start(problem, seed)
        return strategy

    def test_ids_count_up_from_zero(self) -> None:
        ids = [e.candidate.id for e in play(self.strategy(), self.problem(), 100)]
        assert ids == list(range(100))

    def test_ask_gives_as_many_as_wanted(self) -> None:
        strategy = self.started(self.problem())
        assert [len(strategy.ask(n)) for n in (1, 5, 0, 7)] == [1, 5, 0, 7]

    def test_more_can_be_asked_before_anything_is_told(self) -> None:
        candidates = self.started(self.problem()).ask(60)
        assert len(candidates) == 60

    def test_candidates_are_valid_genomes_of_the_space(self) -> None:
        problem = self.problem()
        genomes = np.stack([e.candidate.genome for e in play(self.strategy(), problem, 150)])
        problem.space.check(genomes)
        assert (problem.space.repair(genomes) == genomes).all()

    def test_same_seed_same_candidates(self) -> None:
        first, second = (play(self.strategy(), self.problem(), 150, seed=3) for _ in range(2))
        for a, b in zip(first, second, strict=True):
            assert_same(a.candidate, b.candidate)

    def test_another_seed_gives_other_candidates(self) -> None:
        first, second = (play(self.strategy(), self.problem(), 60, seed=seed) for seed in (0, 1))
        assert any(
            (a.candidate.genome != b.candidate.genome).any() for a, b in zip(first, second, strict=True)
        )
        assert first[0].candidate.seed != second[0].candidate.seed

    def test_candidate_seeds_differ(self) -> None:
        assert len({e.candidate.seed for e in play(self.strategy(), self.problem(), 100)}) == 100

    def test_global_generators_stay_as_they_are(self) -> None:
        before = str(np.random.get_state()), torch.random.get_rng_state().clone()  # noqa: NPY002
        play(self.strategy(), self.problem(), 100)
        assert str(np.random.get_state()) == before[0], "numpy's global generator was drawn from"  # noqa: NPY002
        assert torch.equal(torch.random.get_rng_state(), before[1]), "torch's global generator was drawn from"

    def test_never_asks_a_duplicate(self) -> None:
        evaluations = play(self.strategy(), self.problem(), 600)
        assert len({e.candidate.genome.tobytes() for e in evaluations}) == len(evaluations)

    def test_parents_are_older_and_known(self) -> None:
        assert all(
            parent < e.candidate.id
            for e in play(self.strategy(), self.problem(), 150)
            for parent in e.candidate.parents
        )

    def test_replay_of_the_ledger_gives_the_same_candidates(self) -> None:
        problem = self.problem()
        recorded = play(self.strategy(), problem, 120, chunk=8, lag=24)
        again = self.started(self.problem())
        for j in range(0, 120, 8):
            if j >= 24:
                again.tell(recorded[j - 24 : j - 16])
            for a, b in zip(again.ask(8), recorded[j : j + 8], strict=True):
                assert_same(a, b.candidate)

    def test_put_back_from_its_state_it_goes_on_bit_by_bit(self) -> None:
        strategy = self.started(self.problem(), seed=5)
        if not declares_state(strategy) or strategy.state() is None:
            return  # it is told everything again
        undisturbed = self.started(self.problem(), seed=5)
        for number in range(24):
            asked, there = undisturbed.ask(8), strategy.ask(8)
            results = [
                replace(e, state=State.FAILED, metrics={}) if e.candidate.id % 11 == 5 else e
                for e in evaluate(self.problem(), asked)
            ]
            for a, b in zip(asked, there, strict=True):
                assert_same(a, b)
            # with some results open, others told
            for one in (undisturbed, strategy):
                one.tell(results[: 3 + number % 5])
            if number in (0, 1, 3, 9, 17, 20):
                state = through_a_file(strategy.state())
                strategy = self.started(self.problem(), seed=5)
                strategy.restore(state)
                assert str(through_a_file(strategy.state())) == str(state), "it says something else of itself"
            for one in (undisturbed, strategy):
                one.tell(results[3 + number % 5 :])

    def test_results_may_come_in_pieces(self) -> None:
        problem = self.problem()
        whole, pieces = self.started(problem), self.started(problem)
        for _ in range(8):
            first, second = whole.ask(12), pieces.ask(12)
            for a, b in zip(first, second, strict=True):
                assert_same(a, b)
            evaluations = evaluate(problem, first)
            whole.tell(evaluations)
            pieces.tell(evaluations[:5])
            pieces.tell([])
            pieces.tell(evaluations[5:])

    def test_told_evaluations_are_left_as_they_are(self) -> None:
        problem = self.problem()
        strategy = self.started(problem)
        evaluations = evaluate(problem, strategy.ask(30))
        before = [(e.candidate.genome.copy(), dict(e.metrics)) for e in evaluations]
        strategy.tell(evaluations)
        strategy.ask(30)
        assert all(
            (e.candidate.genome == genome).all() and e.metrics == metrics
            for e, (genome, metrics) in zip(evaluations, before, strict=True)
        )

    def test_survives_failures_and_makes_none_a_parent(self) -> None:
        self.survives(lambda e: replace(e, state=State.FAILED, metrics={}, reason="RuntimeError: no"))

    def test_survives_pruned_candidates(self) -> None:
        self.survives(lambda e: replace(e, state=State.PRUNED, reason="stopped"))

    def test_survives_infinite_and_undefined_metrics(self) -> None:
        self.survives(lambda e: replace(e, metrics=dict.fromkeys(e.metrics, float("inf"))))
        self.survives(lambda e: replace(e, metrics=dict.fromkeys(e.metrics, float("nan"))))

    def survives(self, spoil: Callable[[Evaluation], Evaluation]) -> None:
        problem = self.problem()
        strategy, asked = self.started(problem), 0
        spoilt: set[int] = set()
        for _ in range(20):
            candidates = strategy.ask(8)
            asked += len(candidates)
            assert not spoilt & {parent for c in candidates for parent in c.parents}, (
                "a candidate without a usable result became a parent"
            )
            bad = {c.id for c in candidates if c.id % 3 == 0}
            spoilt |= bad
            strategy.tell([spoil(e) if e.candidate.id in bad else e for e in evaluate(problem, candidates)])
        assert asked == 160

    def test_survives_when_everything_fails(self) -> None:
        strategy = self.started(self.problem())
        for _ in range(10):
            candidates = strategy.ask(8)
            assert len(candidates) == 8
            strategy.tell([Evaluation(c, State.FAILED, {}, reason="RuntimeError: no") for c in candidates])

    def test_a_tiny_space_is_exhausted_and_then_nothing_is_asked(self) -> None:
        evaluations = play(self.strategy(), lotz(4), 100)
        genomes = {e.candidate.genome.tobytes() for e in evaluations}
        assert len(genomes) == len(evaluations) <= 16
        assert len(genomes) >= 12, f"gave up after {len(genomes)} of 16 genomes"


def through_a_file(state: dict[str, Any] | None) -> dict[str, Any]:
    """Return the state of a strategy as it comes back from the snapshot of a run."""
    assert state is not None, "it has no state to give"
    with tempfile.TemporaryDirectory() as folder:
        snapshots = Snapshots(Path(folder, "ledger.db"))
        snapshots.write(0, {}, state)
        found = snapshots.read({})
    assert found is not None, "its state cannot be read again"
    return found


def assert_same(a: Candidate, b: Candidate) -> None:
    """Assert that two candidates are equal in every respect."""
    assert (a.id, a.parents, a.operator, a.seed) == (b.id, b.parents, b.operator, b.seed)
    assert (a.genome == b.genome).all()
