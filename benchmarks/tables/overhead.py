"""``python -m benchmarks.tables.overhead [--quick] [--json FILE]``: what it takes to propose a candidate and
to learn from it after 5,000 evaluations, ours and Optuna's in memory, side by side in one process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import torch

from benchmarks import harness
from benchmarks.tables.arms import distributions, position
from benchmarks.tables.recorded import REPORTING, Recorded, Table, load
from evaluators.base import Evaluation, State
from search import Evolution
from search.problem import Objective, Problem

LATEST = 200
"""Candidates at the end that are timed."""
Step = Callable[[], None]


def ours(table: Table, strategy: Evolution) -> Step:
    """Return a step of a strategy."""
    evaluator = Recorded(table.name)
    evaluator.bind(table.space)
    strategy.start(Problem(table.space, evaluator, (Objective("error"),)), 0)

    def step() -> None:
        (candidate,) = strategy.ask(1)
        error = float(table.at(np.array([table.index(candidate.genome)]))[0])
        strategy.tell([Evaluation(candidate, State.COMPLETE, {"error": error})])

    return step


def optunas(table: Table, sampler: optuna.samplers.BaseSampler) -> Step:
    """Return a step of a sampler."""
    study = optuna.create_study(sampler=sampler)

    def step() -> None:
        trial = study.ask(distributions(table))
        genome = [position(values, trial.params[name]) for name, values in table.choices.items()]
        study.tell(trial, float(table.at(np.array([table.index(np.array(genome))]))[0]))

    return step


def measure(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures and settings; quick: after 500 evaluations."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    evaluations, table = 500 if quick else 5000, load(REPORTING[0])
    arms = {
        "Secateur": ours(table, Evolution()),
        "Secateur, no model": ours(table, Evolution(surrogate=None)),
        "Optuna TPE": optunas(table, optuna.samplers.TPESampler(seed=0)),
        "Optuna NSGA-II": optunas(table, optuna.samplers.NSGAIISampler(seed=0)),
    }
    for step in arms.values():
        for _ in range(evaluations - LATEST):
            step()
    spent = dict.fromkeys(arms, 0.0)
    for _ in range(LATEST):
        for name, step in arms.items():
            began = time.process_time()
            step()
            spent[name] += time.process_time() - began
    overhead = {name: 1000 * seconds / LATEST for name, seconds in spent.items()}
    return {"overhead_ms": overhead}, {"evaluations": evaluations, "table": table.name, "timed": LATEST}


if __name__ == "__main__":
    harness.main("tables.overhead", measure)
