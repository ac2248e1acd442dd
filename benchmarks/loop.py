"""What the loop itself costs: time and memory of the driver, and how well it keeps workers busy, real and
simulated ones.
"""

from __future__ import annotations

import gc
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import nn

from benchmarks import harness
from evaluators import Cost, Evaluators, Quality
from evaluators.base import Candidate, Evaluation, Evaluator, Report
from evaluators.data import Digits
from search.ask_and_tell import candidate_seed
from search.executors import Executor, Finished, RayExecutor, SimulatedExecutor
from search.executors.work import evaluate
from search.loop import Budget, Loop
from search.problem import Objective, Problem
from search.record.about import About
from search.record.ledger import Ledger
from search.strategies.evolution import Evolution
from search.strategy import Strategy
from search.study import StudyView
from search.testing import BitSpace
from spaces import ChannelSpace
from spaces.models import ResidualNet

GROUPS, CHANNELS = 40, 24
SPREAD, LAG = 0.5, 4  # of the simulated evaluation times (log-normal); lag over workers


class Nothing(Evaluator):
    """Costs nothing to evaluate: shares of kept channels, with activations of every locus as a real evaluator
    reports them.
    """

    screened = ("cost",)
    metrics = ("error",)

    def __init__(self, arrays: bool = False) -> None:
        self.arrays = arrays

    def screen(self, genomes: np.ndarray) -> dict[str, np.ndarray]:
        return {"cost": genomes[:, ::2].mean(axis=1)}

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        arrays = {"activation": candidate.genome.astype(np.float16)} if self.arrays else {}
        yield Report({"error": 1 - float(candidate.genome[1::2].mean())}, arrays=arrays)


class Drawing(Strategy):
    """The cheapest strategy there is, so that the loop is what is measured."""

    def ask(self, n: int) -> list[Candidate]:
        return [self._candidate(genome) for genome in self.problem.space.sample(n, self.rng)]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Learn nothing."""


class Rss:
    """Resident memory of this process after the first results and at the end, MiB."""

    def __init__(self, after: int) -> None:
        self.after, self.start = after, 0.0

    def tick(self, loop: Loop) -> None:
        if not self.start and sum(loop.states.values()) >= self.after:
            self.start = self.now()

    @staticmethod
    def now() -> float:
        gc.collect()
        return psutil.Process().memory_info().rss / 2**20

    @property
    def growth(self) -> float:
        return self.now() - self.start


def problem(space: Any, evaluator: Evaluator, objectives: Sequence[str], data: Any = None) -> Problem:
    evaluator.bind(space, data)
    return Problem(space, evaluator, tuple(Objective(name) for name in objectives))


def driver(
    executor: Executor, strategy: Strategy, evaluations: int, arrays: bool, listeners: Sequence[Any] = ()
) -> tuple[float, float]:
    """Search with an evaluator that does nothing, ledger and view on; return milliseconds a candidate, wall
    and of this process.
    """
    task = problem(BitSpace(GROUPS * CHANNELS, GROUPS), Nothing(arrays), ("error", "cost"))
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder, "ledger.db"), task.space)
        About.of("loop", task).save(ledger)
        ledger.commit()
        view = StudyView(folder)
        loop = Loop(
            task,
            strategy,
            executor,
            ledger,
            Budget(evaluations=evaluations),
            lag=512,
            chunk=64,
            listeners=listeners,
        )
        executor.start(task.space, task.evaluator)  # what it takes to start Ray is no matter of the loop
        warm_up(executor, task.space, 8)
        wall, process = time.perf_counter(), time.process_time()
        assert loop.run().kind == "evaluations"
        wall, process = time.perf_counter() - wall, time.process_time() - process
        view.finish(0.0)
        ledger.close()
    return 1000 * wall / evaluations, 1000 * process / evaluations


def warm_up(executor: Executor, space: Any, n: int) -> None:
    """Let every worker process start and load what it needs."""
    executor.submit(candidates(space, n, seed=99))
    left = n
    while left:
        left -= sum(isinstance(event, Finished) for event in executor.events(1.0))


def candidates(space: Any, n: int, seed: int) -> list[Candidate]:
    genomes = space.sample(n, np.random.default_rng(seed))
    return [Candidate(i, genome, seed=candidate_seed(seed, i)) for i, genome in enumerate(genomes)]


def real() -> Problem:
    """Evaluations as a search has them: a compact residual network scored on digits after BatchNorm
    recalibration.
    """
    torch.manual_seed(0)
    data = Digits()
    space = ChannelSpace(ResidualNet().eval(), data.example())
    return problem(space, Evaluators([Cost(), Quality()]), ("error", "macs"), data)


def ray_rate(workers: int, n: int, executor: RayExecutor, task: Problem) -> float:
    """Return candidates a second of the whole loop on Ray workers, running already."""
    executor.start(task.space, task.evaluator)
    warm_up(executor, task.space, 4 * workers)
    loop = Loop(task, Drawing(), executor, Ledger(None, task.space), Budget(evaluations=n), lag=64, chunk=8)
    began = time.perf_counter()
    assert loop.run().kind == "evaluations"
    return n / (time.perf_counter() - began)


def bare_rates(task: Problem, n: int, rounds: int) -> tuple[float, float]:
    """Return candidates a second of one process that does nothing else, and of two at once. To be called
    before Ray starts threads here.
    """
    context = multiprocessing.get_context("fork")
    barrier, rates = context.Barrier(2, timeout=300), context.SimpleQueue()
    processes = [
        context.Process(target=_bare, args=(task, place, n, rounds, barrier, rates)) for place in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    measured: dict[str, list[float]] = {"alone": [], "together": []}
    while not rates.empty():
        kind, rate = rates.get()
        measured[kind].append(rate)
    return float(np.median(measured["alone"])), 2 * float(np.median(measured["together"]))


def _bare(task: Problem, place: int, n: int, rounds: int, barrier: Barrier, rates: Any) -> None:
    def rate(n: int) -> float:
        began = time.perf_counter()
        for candidate in candidates(task.space, n, seed=0):
            for _ in evaluate(task.space, task.evaluator, candidate):
                pass
        return n / (time.perf_counter() - began)

    rate(8)
    for _ in range(rounds):
        for turn in range(2):
            barrier.wait()
            if place == turn:
                rates.put(("alone", rate(n)))
        barrier.wait()
        rates.put(("together", rate(n)))


def simulated_busy(workers: int, evaluations: int, seed: int) -> float:
    """Return the share of virtual time that simulated workers work, in strict order, until nothing is left to
    ask.
    """

    def duration(candidate: Candidate) -> float:
        return float(np.random.default_rng((seed, candidate.id)).lognormal(0, SPREAD))

    executor = SimulatedExecutor(workers, duration)
    task = problem(BitSpace(GROUPS), Nothing(), ("error", "cost"))
    busy: list[float] = []

    class Watch:
        def tick(self, loop: Loop) -> None:
            if loop.asked < evaluations:
                busy[:] = [executor.busy_share]

    budget, lag = Budget(evaluations=evaluations), LAG * workers
    assert (
        Loop(
            task, Drawing(), executor, Ledger(None, task.space), budget, lag=lag, chunk=8, listeners=[Watch()]
        )
        .run()
        .kind
        == "evaluations"
    )
    return busy[0]


def measure(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures and settings."""
    plain, evolved, scored, rounds = (2000, 4000, 32, 1) if quick else (10_000, 10_000, 200, 5)
    simulated, runs = (4000, 3) if quick else (20_000, 8)
    task = real()
    alone, together = bare_rates(task, scored, rounds)
    # rare long evaluations decide, so one sequence of durations says little
    busy = {
        workers: [simulated_busy(workers, simulated * workers // 256, seed) for seed in range(runs)]
        for workers in (16, 256)
    }
    two = RayExecutor(workers=2, batch=64)
    rss = Rss(after=500)
    with_evolution, _ = driver(two, Evolution(population=64), evolved, arrays=True, listeners=[rss])
    growth = rss.growth
    milliseconds, own = driver(two, Drawing(), plain, arrays=False)
    rates: dict[int, list[float]] = {2: [], 1: []}
    two.batch = 4
    executor = two
    for turn in range(rounds):
        for workers, measured in rates.items():
            if turn or workers == 1:
                executor = RayExecutor(workers=workers, batch=4)
            measured.append(ray_rate(workers, workers * scored, executor, task))
            executor.close()
    figures = {
        "driver_ms_per_candidate": milliseconds,
        "driver_cpu_ms_per_candidate": own,
        "driver_ms_per_candidate_evolution": with_evolution,
        "scaling_2_workers": float(np.median(np.divide(rates[2], rates[1]))),
        "ceiling_2_processes": together / alone,
        "candidates_per_second": {
            "1 worker": harness.spread(rates[1]),
            "2 workers": harness.spread(rates[2]),
            "1 bare process": alone,
            "2 bare processes": together,
        },
        "simulated_busy_16": float(np.mean(busy[16])),
        "simulated_busy_256": float(np.mean(busy[256])),
        "simulated_busy_256_spread": harness.spread(busy[256]),
        "memory_growth_mib": growth,
    }
    settings = {
        "batch": 64,
        "groups": GROUPS,
        "channels": GROUPS * CHANNELS,
        "candidates": {
            "driver": plain,
            "evolution and memory": evolved,
            "scaling": scored,
            "simulated": [runs, simulated],
        },
        "rounds": rounds,
        "order": "strict",
        "lag": {"driver": 512, "scaling": 64, "simulated": f"{LAG} x workers"},
        "spread": SPREAD,
    }
    return figures, settings


if __name__ == "__main__":
    torch.set_num_threads(1)
    harness.main("loop", measure)
