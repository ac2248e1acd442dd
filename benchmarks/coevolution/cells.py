"""What the graph of cells costs: how busy workers are, and how much moves between them.

``busy_share_simulated``: 64 cells on a torus, 16 simulated workers, steps of log-normal duration with spread
.5. ``busy_share_ray``: 16 cells on 2 Ray workers, from the first step's beginning to the last one's end.
``transfer_ratio``: bytes that a step takes from other cells (their pairs, and the moments of the halves that
it selects) over the size of a pair with its moments, as it lies on disk; four neighbours.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.coevolution.arms import TASKS, pair
from evaluators import Cost, PairTraining
from evaluators.base import Evaluators
from evaluators.pairs.state import Tensors, pack_moments
from operators.mutation import VariancePruning
from operators.schedules import Fixed
from search import InlineExecutor, Ledger, Problem
from search.budget import Budget
from search.coevolution import CellLoop, Coevolution, Torus
from search.coevolution.grid import Grid, Stepped
from search.coevolution.inline_grid import InlineGrid, SimulatedGrid
from search.coevolution.ray_grid import RayGrid
from search.executors.ray_tasks import RayExecutor
from search.problem import Objective
from spaces import PairSpace


def cell_figures(quick: bool = False) -> dict[str, float]:
    """Measure all three."""
    with tempfile.TemporaryDirectory() as folder:
        times = np.random.default_rng(0).lognormal(0, 0.5, 10_000)
        simulated = SimulatedGrid(16, lambda id: float(times[id]))
        _loop(Path(folder) / "simulated", simulated, Torus(8, 8), 8 if quick else 25, batches=1).run()
        counting = Counting()
        _loop(Path(folder) / "counting", counting, Torus(3, 3), 10, batches=1).run()
        return {
            "busy_share_simulated": simulated.busy_share,
            "busy_share_ray": _busy_on_ray(Path(folder) / "ray", 6 if quick else 20),
            "transfer_ratio": counting.moved / counting.steps / counting.size,
        }


class Counting(InlineGrid):
    """Counts what other cells' states weigh that a step takes."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = self.steps = self.size = 0

    def _run(self, id: int, needs: Sequence[int]) -> Stepped:
        states = [self._states[need] for need in needs]
        fetched: dict[int, Tensors] = {}
        evaluation, outcome = self._work.run(
            id, [s.state for s in states], lambda place: fetched.setdefault(place, states[place].moments)
        )
        assert outcome is not None
        self._states[id] = outcome
        if needs:
            self.steps += 1
            self.moved += sum(len(s.state.to_bytes()) for s in states[1:])
            self.moved += sum(_bytes(pack_moments(moments)) for place, moments in fetched.items() if place)
            self.size = max(self.size, len(outcome.state.to_bytes(outcome.moments)))
        return Stepped(id, evaluation)


def _bytes(tensors: Tensors) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _busy_on_ray(path: Path, steps: int) -> float:
    executor = RayExecutor(workers=2)
    loop = _loop(path, RayGrid(executor), Torus(4, 4), steps, epochs=20)
    watch = _Watch()
    loop.tally.hearing.append(watch)
    try:
        loop.run()
    finally:
        executor.close()
    return loop.busy / (2 * (watch.last - watch.first))


class _Watch:
    """When the first step began, and the last one ended."""

    first = last = 0.0

    def evaluated(self, evaluation: Any, joined: bool) -> None:
        self.last = time.monotonic()
        self.first = self.first or self.last - evaluation.seconds


def _loop(path: Path, grid: Grid, topology: Torus, steps: int, **training: Any) -> CellLoop:
    data = TASKS["digits"].data(0)
    space = PairSpace(pair(0), data.example())
    evaluator = Evaluators([Cost(), PairTraining(**training)])
    evaluator.bind(space, data)
    evaluator.state = path
    path.mkdir()
    problem = Problem(space, evaluator, (Objective("loss"), Objective("params")))
    rules = Coevolution(
        topology=topology, steps=steps, schedule=Fixed(0.5), pruning=[VariancePruning("low", 0.1)]
    )
    return CellLoop(
        problem, rules, grid, InlineExecutor(), Ledger(path / "ledger.db", space), Budget(), seed=0
    )
