"""``python -m benchmarks.tables.workers [--quick] [--json FILE]``: many workers in virtual time, in strict
order: what is lost where candidates are asked while hundreds of others are being evaluated.

An evaluation takes .5 to 1.5 seconds. After so many rounds, of a second each, the regret of many workers is
held against that of one worker after as many evaluations as they have done by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from benchmarks import harness
from benchmarks.tables.figures import ratio
from benchmarks.tables.recorded import REPORTING, Recorded, Table, load
from evaluators.base import Candidate, Evaluation
from search import Search, SimulatedExecutor

CHUNK = 32
WORKERS = (16, 256)
ROUNDS = (4, 8, 12)
SEEDS = 5


def duration(candidate: Candidate) -> float:
    """Return seconds that an evaluation takes: .5 to 1.5, by its seed."""
    return 0.5 + float(np.random.default_rng(candidate.seed).random())


class Results:
    """A listener: what came when."""

    def __init__(self, executor: SimulatedExecutor) -> None:
        self._executor = executor
        self.times: list[float] = []
        self.errors: list[float] = []

    def evaluated(self, evaluation: Evaluation, joined: bool) -> None:
        self.times.append(self._executor.now)
        self.errors.append(evaluation.metrics["error"])

    def within(self, seconds: float) -> np.ndarray:
        """Return the errors that were known by then."""
        return np.array(self.errors)[np.array(self.times) <= seconds]


def run(table: Table, workers: int, evaluations: int, seed: int) -> Results:
    """Search a table with so many workers; it ends at the optimum."""
    executor = SimulatedExecutor(workers, duration)
    results = Results(executor)
    chunk = min(CHUNK, workers)
    search = Search(
        space=table.space,
        evaluators=[Recorded(table.name)],
        objectives=["error"],
        executor=executor,
        study=False,
        seed=seed,
        lag=chunk if workers == 1 else workers + chunk,
        chunk=chunk,
        listeners=[results],
    )
    search.run(evaluations=evaluations, target={"error": table.best})
    return results


def measure(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures and settings; quick: two tables, two seeds."""
    torch.set_num_threads(1)
    tables, seeds = (REPORTING[4:6], 2) if quick else (REPORTING, SEEDS)
    regrets = {
        (workers, rounds): {name: np.zeros((2, seeds)) for name in tables}
        for workers in WORKERS
        for rounds in ROUNDS
    }
    for name in tables:
        for seed in range(seeds):
            _compare(name, seed, {key: rows[name] for key, rows in regrets.items()})
    floors = {name: load(name).resolution for name in tables}
    figures: dict[str, Any] = {}
    for (workers, rounds), rows in regrets.items():
        many = {name: pair[0] for name, pair in rows.items()}
        one = {name: pair[1:] for name, pair in rows.items()}
        means = {name: {"many": pair[0].mean(), "one": pair[1].mean()} for name, pair in rows.items()}
        figures[f"workers_{workers}_rounds_{rounds}"] = ratio(many, one, floors) | {"regrets": means}
    figures["workers_256"] = figures[f"workers_256_rounds_{ROUNDS[-1]}"]["ratio"]
    return figures, {"seeds": seeds, "tables": list(tables), "rounds": ROUNDS, "chunk": CHUNK}


def _compare(name: str, seed: int, regrets: Mapping[tuple[int, int], np.ndarray]) -> None:
    """Fill in the regrets ``(2, seeds)`` of one seed: those of many workers, and of one."""
    table = load(name)
    most = max(WORKERS) * ROUNDS[-1]
    alone = np.array(run(table, 1, most, seed).errors)
    for workers in WORKERS:
        results = run(table, workers, workers * ROUNDS[-1], seed)
        for rounds in ROUNDS:
            found = results.within(rounds)
            regrets[workers, rounds][:, seed] = (
                found.min() - table.best,
                alone[: len(found)].min() - table.best,
            )


if __name__ == "__main__":
    harness.main("tables.workers", measure)
