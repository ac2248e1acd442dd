"""Whose front is best at equal evaluations: evolved masks against one-shot criteria, Torch-Pruning, Optuna
and chance.

For each seed the data are split anew and a residual net is trained on digits. Every arm may evaluate the same
number of candidates, each after the same BatchNorm recalibration; its front is chosen on the search split,
and scored by its error on the test split, which no arm has seen. Evolution and Optuna's NSGA-II run twice, by
the error and by the expected error (1 - p(label)), which overfits the search split less; the quickstart goes
by the latter. One-shot criteria stop where more evaluations make no other masks. Hypervolume is of (test
error, MACs over the base model's) to the reference (.2, 1). Then five members of each arm's front, chosen by
one rule, are fine-tuned alike and scored again.
"""

from __future__ import annotations

import copy
import json
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import optuna
import torch
import torch_pruning
from torch import nn

from benchmarks import harness
from evaluators import Cost, Evaluators, Quality, Training, assess, count, fit
from evaluators.data import Digits, Preloaded, Split
from operators.criteria import Activation, Magnitude, Taylor, score_all
from operators.repair.batchnorm import recalibrate
from search.executors import InlineExecutor
from search.loop import Budget, Loop
from search.problem import Constraint, Objective, Problem
from search.record.ledger import Ledger
from search.strategies.evolution import Evolution
from search.strategies.random_search import RandomSearch
from search.strategy import Strategy
from spaces import ChannelSpace
from spaces.files import replacing
from spaces.models import ResidualNet

REFERENCE = (0.2, 1.0)
LIMIT = Constraint("error", "<=", REFERENCE[0])
"""Given to every arm that takes constraints: nothing beyond the reference counts."""
MEMBERS, EPOCHS = 5, 6
STAGES = Path(__file__).parent / "results" / "front"


@dataclass(eq=False)
class Point:
    """A candidate of an arm: how it did on the search split, MACs over the base model's, and how to make its
    model again.

    Attributes:
        score: what the arm goes by; the error, or the expected error.
        error: share of wrong predictions.
    """

    score: float
    error: float
    macs: float
    make: Callable[[], nn.Module]


class Task:
    """One seed: splits, trained base model, space, and what all arms share."""

    def __init__(self, seed: int, epochs: int) -> None:
        self.seed, self.data = seed, Digits(seed=seed)
        torch.manual_seed(seed)
        model = ResidualNet()
        for _ in fit(model, self.data, Training(epochs=epochs)):
            pass
        self.space = ChannelSpace(model.eval(), self.data.example())
        self._batches = Preloaded(self.data)
        self.evaluator = Evaluators([Cost(), Quality()])
        self.evaluator.bind(self.space, self.data)
        self.base_macs = float(self.evaluator.screen(self.space.base[None])["macs"][0])

    @cached_property
    def guide(self) -> dict[str, np.ndarray]:
        """Scores of the base model, as the engine itself computes them."""
        criteria = [Magnitude(), Taylor(), Activation()]
        scores = score_all(
            criteria, self.space.model, self.data.batches("calibration", 256), self.space.plan, self.data.loss
        )
        return {
            "base_activation" if name == "activation" else name: values for name, values in scores.items()
        }

    def assess(self, model: nn.Module, split: Split, repaired: bool = True) -> dict[str, float]:
        """Metrics on a split, by default after the recalibration that every candidate gets."""
        if repaired:
            recalibrate(model, self._batches.batches("calibration", 256))
        return assess(model, self.data, self._batches.batches(split, 256))

    def made(self, make: Callable[[], nn.Module], macs: float, metric: str = "error") -> Point:
        """Evaluate a model on the search split."""
        metrics = self.assess(make(), "search")
        return Point(metrics[metric], metrics["error"], macs / self.base_macs, make)

    def point(self, genome: np.ndarray, metric: str = "error") -> Point:
        """Evaluate one mask."""
        macs = float(self.evaluator.screen(genome[None])["macs"][0])
        return self.made(lambda: self.space.build(genome), macs, metric)


def strategy_arm(task: Task, strategy: Strategy, evaluations: int, metric: str = "error") -> list[Point]:
    """Run a strategy of Secateur's, as the quickstart does."""
    problem = Problem(
        task.space,
        task.evaluator,
        (Objective(metric), Objective("macs")),
        (LIMIT,),
        guide=task.guide,
        of_parent=frozenset({"base_activation"}),
    )
    ledger = Ledger(None, task.space)
    Loop(problem, strategy, InlineExecutor(), ledger, Budget(evaluations), seed=task.seed).run()
    return [
        Point(
            e.metrics[metric],
            e.metrics["error"],
            e.metrics["macs"] / task.base_macs,
            lambda g=e.candidate.genome: task.space.build(g),
        )
        for _, e in ledger.evaluations()
    ]


def shares(task: Task, evaluations: int) -> list[float]:
    """Shares of the channels that a one-shot criterion is tried at: more than there are channels make no
    other masks.
    """
    n = min(evaluations, task.space.length)
    return np.linspace(1 / n, 1, n).tolist()


def uniform_magnitude(task: Task, evaluations: int) -> list[Point]:
    """The same share of every group, the largest filters."""
    points = []
    for share in shares(task, evaluations):
        genome = np.zeros(task.space.length, dtype=np.uint8)
        for part in task.space.slices.values():
            _keep_best(genome, part, task.guide["magnitude"], share)
        points.append(task.point(genome))
    return points


def global_magnitude(task: Task, evaluations: int) -> list[Point]:
    """The largest filters of the whole network, each over the mean of its group."""
    scores = task.guide["magnitude"].copy()
    for part in task.space.slices.values():
        scores[part] /= scores[part].mean()
    order = np.argsort(-scores, kind="stable")
    points = []
    for share in shares(task, evaluations):
        genome = np.zeros(task.space.length, dtype=np.uint8)
        genome[order[: max(1, round(share * len(order)))]] = 1
        for part in task.space.slices.values():  # no group may vanish: its best channel stays
            genome[part.start + int(np.argmax(scores[part]))] = 1
        points.append(task.point(genome))
    return points


def optuna_arm(task: Task, evaluations: int, metric: str = "error") -> list[Point]:
    """Optuna's NSGA-II over the kept share of every group, the largest filters within a group."""
    points: list[Point] = []

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        genome = np.zeros(task.space.length, dtype=np.uint8)
        for name, part in task.space.slices.items():
            _keep_best(genome, part, task.guide["magnitude"], trial.suggest_float(name, 0, 1))
        points.append(task.point(genome, metric))
        trial.set_constraint(str(LIMIT), points[-1].error - LIMIT.bound)
        return points[-1].score, points[-1].macs

    study = optuna.create_study(
        directions=["minimize", "minimize"], sampler=optuna.samplers.NSGAIISampler(seed=task.seed)
    )
    study.optimize(objective, n_trials=evaluations)
    return points


def global_taylor(task: Task, evaluations: int) -> list[Point]:
    """Torch-Pruning's global pruner with its group Taylor importance."""
    base = copy.deepcopy(task.space.model)
    for inputs, targets in task.data.batches("calibration", 256):
        task.data.loss(base(inputs), targets).mean().backward()

    def pruned(ratio: float) -> nn.Module:
        model = copy.deepcopy(base)
        for parameter, source in zip(model.parameters(), base.parameters(), strict=True):
            parameter.grad = source.grad  # a deep copy leaves gradients behind
        pruner = torch_pruning.pruner.BasePruner(
            model,
            task.data.example(),
            importance=torch_pruning.importance.GroupTaylorImportance(),
            global_pruning=True,
            pruning_ratio=ratio,
            max_pruning_ratio=0.99,
            ignored_layers=[model.head],
        )
        pruner.step()
        return model

    points = []
    for share in shares(task, evaluations):
        macs = count(pruned(1 - share), task.data.example())["macs"]
        points.append(task.made(lambda share=share: pruned(1 - share), macs))
    return points


ARMS: dict[str, Callable[[Task, int], list[Point]]] = {
    "evolution": lambda task, n: strategy_arm(task, Evolution(), n, "expected_error"),
    "evolution on the error": lambda task, n: strategy_arm(task, Evolution(), n),
    "random": lambda task, n: strategy_arm(task, RandomSearch(), n),
    "uniform magnitude": uniform_magnitude,
    "global magnitude": global_magnitude,
    "global Taylor (Torch-Pruning)": global_taylor,
    "Optuna NSGA-II": lambda task, n: optuna_arm(task, n, "expected_error"),
    "Optuna NSGA-II on the error": optuna_arm,
}
OURS = ("evolution", "evolution on the error")


def front(points: list[Point]) -> list[Point]:
    """Return the points that no other beats on the search split, cheapest first."""
    values = np.array([[p.score, p.macs] for p in points])
    kept = [points[i] for i in np.flatnonzero(moocore.is_nondominated(values, keep_weakly=False))]
    return sorted(kept, key=lambda p: p.macs)


def spread_out(points: list[Point], k: int) -> list[Point]:
    """Return `k` of a front: nearest to equal steps in MACs between its ends below the reference error."""
    useful = [p for p in points if p.error < REFERENCE[0]]
    chosen: list[Point] = []
    for target in np.linspace(useful[0].macs, useful[-1].macs, k):
        rest = [p for p in useful if p not in chosen]
        if rest:
            chosen.append(min(rest, key=lambda p: abs(p.macs - target)))
    return chosen


def hypervolume(errors: list[float], macs: list[float]) -> float:
    """Area that (error, MACs share) dominates, to :data:`REFERENCE`."""
    return float(moocore.hypervolume(np.column_stack([errors, macs]), ref=np.array(REFERENCE)))


def fine_tuned(task: Task, points: list[Point]) -> float:
    """Hypervolume of some members after equal training."""
    errors = []
    for number, point in enumerate(points):
        torch.manual_seed(1000 * task.seed + number)
        model = point.make()
        recalibrate(model, task.data.batches("calibration", 256))
        for _ in fit(model, task.data, Training(epochs=EPOCHS, learning_rate=1e-3)):
            pass
        errors.append(task.assess(model, "test", repaired=False)["error"])
    return hypervolume(errors, [p.macs for p in points])


def _keep_best(genome: np.ndarray, part: slice, scores: np.ndarray, share: float) -> None:
    size = part.stop - part.start
    kept = min(size, max(1, round(share * size)))
    genome[part.start + np.argsort(-scores[part], kind="stable")[:kept]] = 1


def stage_file(seed: int, evaluations: int, epochs: int) -> Path:
    """Where the results of a seed lie."""
    return STAGES / f"{evaluations}-{epochs}-{seed}.json"


def record(seed: int, evaluations: int, epochs: int) -> None:
    """Write what :func:`run_seed` returns beside the results, so that an interrupted benchmark goes on with
    the missing seeds.
    """
    stage = {"commit": harness.environment()["commit"], "arms": run_seed(seed, evaluations, epochs)}
    with replacing(stage_file(seed, evaluations, epochs)) as part:
        part.write_text(json.dumps(stage))


def run_seed(seed: int, evaluations: int, epochs: int) -> dict[str, dict[str, float]]:
    """Return what each arm reached for one seed."""
    task, results = Task(seed, epochs), {}
    for name, arm in ARMS.items():
        start = time.perf_counter()
        found = front(arm(task, evaluations))
        seconds = time.perf_counter() - start
        errors = [task.assess(p.make(), "test")["error"] for p in found]
        half = [e for e, p in zip(errors, found, strict=True) if p.macs <= 0.5]
        results[name] = {
            "hypervolume": hypervolume(errors, [p.macs for p in found]),
            "hypervolume_search": hypervolume([p.error for p in found], [p.macs for p in found]),
            "hypervolume_finetuned": fine_tuned(task, spread_out(found, MEMBERS)),
            "error_at_half": half[-1] if half else float("nan"),
            "members": len(found),
            "seconds": seconds,
        }
    return results


def measure(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures and settings."""
    seeds, evaluations, epochs = (range(1, 3), 200, 10) if quick else (range(1, 7), 3000, 30)
    files = {seed: stage_file(seed, evaluations, epochs) for seed in seeds}
    missing = [seed for seed, file in files.items() if not file.exists()]
    if missing:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(mp_context=context, initializer=_quiet) as pool:
            list(pool.map(record, missing, [evaluations] * len(missing), [epochs] * len(missing)))
    stages = [json.loads(file.read_text()) for file in files.values()]
    rows = [stage["arms"] for stage in stages]

    def ratios(key: str) -> Iterator[float]:
        for row in rows:
            yield row[OURS[0]][key] / max(result[key] for name, result in row.items() if name not in OURS)

    before, after = list(ratios("hypervolume")), list(ratios("hypervolume_finetuned"))
    figures = {
        "hypervolume_ratio": float(np.median(before)),
        "hypervolume_ratio_finetuned": float(np.median(after)),
        "hypervolume_ratio_spread": harness.spread(before),
        "hypervolume_ratio_finetuned_spread": harness.spread(after),
        "arms": {
            name: {key: harness.spread([row[name][key] for row in rows]) for key in rows[0][name]}
            for name in ARMS
        },
    }
    settings = {
        "seeds": list(seeds),
        "evaluations": evaluations,
        "base_epochs": epochs,
        "members": MEMBERS,
        "finetuning_epochs": EPOCHS,
    }
    return figures, settings | {"reference": REFERENCE, "commits": [stage["commit"] for stage in stages]}


def _quiet() -> None:
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)


if __name__ == "__main__":
    harness.main("front", measure)
