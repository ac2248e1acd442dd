"""How well each rung of a ladder predicts the fine-tuned truth: 60 masks, each trained through all rungs by
the product's evaluator.

``python -m benchmarks.fronts.rungs [--seeds 1] [--tasks ...]`` records a shard a task and seed; what is there
stays.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.fronts.controls import Weights, kept, scores
from benchmarks.fronts.record import FOLDER, ground
from benchmarks.fronts.tasks import TASKS, Ground
from evaluators import Candidate, InheritedTraining
from evaluators.training.distillation import Distillation
from operators.criteria import Magnitude
from search.ask_and_tell import candidate_seed
from search.strategies.rank_correlation import rank_correlation
from spaces.files import replacing

RUNGS = FOLDER.with_name("fronts_rungs")
STEPS = (0, 16, 64, 256)
"""Gradient steps of each rung; after the last ones a mask is fully tuned (about 70 epochs of the 300
digits).
"""
MASKS, LARGEST, SMALLEST = 60, 0.6, 0.03
_DENSE = 0.2  # of an arm's budget trains the unpruned network


def masks(here: Ground, rng: np.random.Generator) -> np.ndarray:
    """Return masks ``(60, length)`` of log-uniform sizes: magnitudes, disturbed a little or a lot, by groups
    and one by one.
    """
    worth = scores(Weights(here), Magnitude())
    found = []
    for share in np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST), MASKS)):
        noise = rng.normal(size=len(worth)) * rng.uniform(0, 1)
        for part in here.space.slices.values():
            noise[part] += rng.normal() * 0.5
        found.append(kept(here, np.ones(here.space.length, dtype=np.uint8), worth * np.exp(noise), share))
    return np.stack(found)


def climb(here: Ground, steps: Sequence[int] = STEPS) -> dict[str, Any]:
    """Train all masks through all rungs; return their losses on the search split at each, on the test split
    at the end, and MACs.
    """
    evaluator = InheritedTraining(
        steps,
        here.task.batch,
        here.task.rate,
        first_steps=int(_DENSE * here.budget / (3 * here.task.batch)),
        distillation=Distillation(1.0, 1.0),
        record_activations=False,
    )
    evaluator.bind(here.space, here.data)
    with tempfile.TemporaryDirectory() as name:
        evaluator.state = Path(name)
        base = Candidate(-1, here.space.base, (), "base", candidate_seed(here.seed, 2**31))
        trained = here.space.build(here.space.base)
        assert list(evaluator.evaluate(trained, base))
        here.space.model.load_state_dict(trained.state_dict())
        drawn = masks(here, np.random.default_rng(here.seed))
        losses, macs, test = (
            np.zeros((len(steps), len(drawn))),
            np.zeros((len(steps), len(drawn))),
            np.zeros(len(drawn)),
        )
        for rung, number in itertools.product(range(len(steps)), range(len(drawn))):
            id = len(drawn) * rung + number
            candidate = Candidate(
                id, drawn[number], (id - len(drawn),) if rung else (), "", candidate_seed(here.seed, id)
            )
            model = here.space.build(drawn[number])
            (report,) = evaluator.evaluate(model, candidate)
            losses[rung, number], macs[rung, number] = (
                report.metrics["loss"],
                report.metrics["training_macs"] / here.unit,
            )
            if rung == len(steps) - 1:
                test[number] = here.loss(model, "test")
    sizes = here.costs(drawn)
    return {
        "steps": list(steps),
        "losses": losses.tolist(),
        "test": test.tolist(),
        "sizes": sizes.tolist(),
        "training": macs.tolist(),
    }


def record(folder: Path, task: str, seed: int) -> dict[str, Any]:
    """Write a shard, if it is not there; return it."""
    file = folder / f"{task}-{seed}.json"
    if not file.exists():
        began = time.process_time()
        shard = (
            {"task": task, "seed": seed}
            | climb(ground(task, seed))
            | {"seconds": time.process_time() - began}
        )
        with replacing(file) as part:
            part.write_text(json.dumps(shard) + "\n")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def correlations(folder: Path = RUNGS) -> dict[str, dict[str, dict[str, float]]]:
    """Return Kendall's tau of each rung with the test loss of the fully tuned, by task and steps: plain, size
    held fixed, and the cost.

    ``macs`` is what has been spent on a candidate by then, as a share of what the truth takes. Several seeds
    are averaged.
    """
    found: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    for file in sorted(folder.glob("*.json")):
        shard = json.loads(file.read_text())
        test, sizes = np.array(shard["test"]), np.log(shard["sizes"])
        spent = np.cumsum(np.array(shard["training"]).sum(axis=1))
        for taken, losses, cost in zip(
            np.cumsum(shard["steps"]).tolist(), np.array(shard["losses"]), spent / spent[-1], strict=True
        ):
            plain, fixed = rank_correlation(losses, test).tau, rank_correlation(losses, test, sizes).tau
            found.setdefault(shard["task"], {}).setdefault(f"{taken} steps", []).append(
                (plain, fixed, float(cost))
            )
    means = {
        task: {steps: np.mean(values, axis=0).tolist() for steps, values in by.items()}
        for task, by in found.items()
    }
    return {
        task: {
            steps: dict(zip(("tau", "size held fixed", "macs"), values, strict=True))
            for steps, values in by.items()
        }
        for task, by in means.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Record what is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fronts.rungs")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for seed, task in itertools.product(range(given.seeds), given.tasks):
        print(f"{task} {seed}: {record(RUNGS, task, seed)['seconds']:.0f} s", flush=True)
    print(json.dumps(correlations(), indent=1))


if __name__ == "__main__":
    main()
