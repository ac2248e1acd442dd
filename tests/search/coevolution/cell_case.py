"""A coevolution of milliseconds a step, for the tests of cells, grids and their loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from evaluators import Cost, PairTraining
from evaluators.base import Evaluators
from evaluators.data import Reconstruction
from evaluators.data.arrays import Arrays
from operators.mutation import RandomPruning
from operators.schedules import Fixed
from search import InlineExecutor, Ledger, Problem
from search.budget import Budget
from search.coevolution import CellLoop, Coevolution, Ring
from search.coevolution.inline_grid import InlineGrid
from search.problem import Objective
from spaces.models import Perceptron
from spaces.pairs.pair import Pair
from spaces.pairs.space import PairSpace


def tiny_data(seed: int = 0) -> Reconstruction:
    rng = np.random.default_rng(seed)
    codes = rng.normal(size=(200, 3)).astype(np.float32)
    return Reconstruction(
        Arrays(np.tanh(codes @ rng.normal(size=(3, 12)).astype(np.float32)), np.zeros(200, np.int64)),
        loss="mse",
    )


def tiny_pair() -> Pair:
    torch.manual_seed(0)
    return Pair(Perceptron((12, 10, 4)), Perceptron((4, 10, 12)))


def make(
    tmp_path: Path,
    rules: Coevolution,
    grid=None,
    evaluations: int | None = None,
    name: str = "run",
    target: dict[str, float] | None = None,
    **training,
) -> CellLoop:
    data = tiny_data()
    space = PairSpace(tiny_pair(), data.example())
    parts = [Cost(), PairTraining(**({"batches": 3, "learning_rate": 3e-3} | training))]
    evaluator = Evaluators(parts)
    evaluator.bind(space, data)
    evaluator.state = tmp_path / name
    problem = Problem(space, evaluator, (Objective("loss"), Objective("params")))
    ledger = Ledger(tmp_path / f"{name}.db", space)
    return CellLoop(
        problem,
        rules,
        grid or InlineGrid(),
        InlineExecutor(),
        ledger,
        Budget(evaluations, target=target),
        seed=7,
    )


def rules(**changes) -> Coevolution:
    settings = {"topology": Ring(5), "steps": 6, "pruning": [RandomPruning(0.1)], "schedule": Fixed(0.5)}
    return Coevolution(**(settings | changes))


def rows(loop: CellLoop) -> dict[int, tuple]:
    return {
        e.candidate.id: (
            e.candidate.genome.tobytes(),
            e.candidate.parents,
            e.candidate.operator,
            tuple(sorted(e.metrics.items())),
        )
        for _, e in loop.ledger.evaluations()
    }
