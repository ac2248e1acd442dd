"""Pruners on learning curves that others recorded: LCDB (Mohr et al. 2022), package ``lcdb``.
``python -m benchmarks.tables.curves [--quick] [--json FILE]``

A task is one data set of LCDB. A trial is one learner of scikit-learn on one of 25 splits (five outer, five
inner seeds); it reports its error on that split's validation part. A step is the next anchor, the next larger
number of training samples (times the root of 2), and costs one, whatever the samples: budgets are steps over
the steps of a whole trial, "whole trainings". The objective is the recorded validation error at the last
anchor, so every regret is exact. As 25 trials of a task share a learner, the learner that was chosen is
judged, too, by its mean test error over all splits (`learner`).

``pruner_regret_ratio`` holds our pruner against the best existing one of every task, which is known only in
hindsight; ``pruner_regret_ratio_one`` against the one that is best over all tasks.

Of data sets with at least 16 anchors, 400 whole trials and 100 different final errors, 61 of 248, 20 are for
tuning and 20 for reporting; 21 are left for whoever reviews. Read are the columns ``openmlid, learner,
size_train, outer_seed, inner_seed, score_valid, score_test`` of ``database-accuracy.csv``, once; what is
needed of them is kept in the user's cache folder.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.tables.curve_arms import ARMS, EXISTING, NONE, OURS, Moment, quiet, simulate

TUNING = (
    *(41164, 1489, 1042, 923, 41972, 752, 823, 41163, 1119, 6),
    *(41142, 4534, 901, 184, 41156, 1053, 735, 41145, 976, 179),
)
"""Settings were chosen on these (OpenML's numbers), drawn before the first run by
``np.random.default_rng(24).permutation`` of all 61 in ascending order: the first 20.
"""
REPORTING = (
    *(41146, 42734, 42810, 23517, 1590, 816, 4135, 819, 4538, 847),
    *(26, 881, 722, 32, 807, 1120, 393, 1486, 822, 1477),
)
"""Figures are of these: the next 20."""

SEEDS = 30
BUDGETS = (10, 20, 40)
"""Whole trainings."""
MAIN = 20
"""At which the figure with a target is."""
LEVEL = 0.90
_DRAWS = 2000
_LEAST = {"anchors": 16, "trials": 400, "errors": 100}
_SPLITS = 5
_COLUMNS = ["openmlid", "learner", "size_train", "outer_seed", "inner_seed", "score_valid", "score_test"]


@dataclass(frozen=True)
class Crowd:
    """What is run with many workers: fewer seeds, and the first of the data sets.

    Attributes:
        times: at which is looked, in whole trainings at the median pace.
    """

    workers: int
    times: tuple[float, ...]
    tasks: int
    seeds: int


CROWDS = (Crowd(16, (1.25, 2.5), 8, 5), Crowd(256, (1.25,), 4, 3))


@dataclass(frozen=True, eq=False)
class Curves:
    """All that was recorded of one task.

    Attributes:
        name: of the data set.
        errors: validation errors, ``(trials, steps)``.
        tests: mean test error over all splits at the last step of a trial's learner, ``(trials,)``.
    """

    name: str
    errors: np.ndarray
    tests: np.ndarray

    @property
    def steps(self) -> int:
        """Steps of a whole trial."""
        return self.errors.shape[1]

    @cached_property
    def resolution(self) -> float:
        """The smallest difference between two final errors: what a regret of 0 counts as in ratios."""
        return float(np.diff(np.unique(self.errors[:, -1])).min())

    def regret(self, row: int) -> float:
        """Return how far a trial's final error is from the best one's."""
        return float(self.errors[row, -1] - self.errors[:, -1].min())

    def learner_regret(self, row: int) -> float:
        """Return how far a trial's learner is from the best one, by mean test errors."""
        return float(self.tests[row] - self.tests.min())


def load(name: int) -> Curves:
    """Return the curves of a data set by its number in OpenML.

    Raises:
        ModuleNotFoundError: ``lcdb`` is not installed.
    """
    with np.load(_cached()) as kept:
        return Curves(str(name), *(kept[f"{name}.{part}"] for part in ("errors", "tests")))


@cache
def _cached() -> Path:
    """Return the file of all that is needed, made where it is missing."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "secateur"
    file = folder / "lcdb-0.1.0-curves.npz"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}.npz")
        np.savez_compressed(partial, **_read())
        partial.replace(file)
    return file


def _read() -> dict[str, np.ndarray]:
    """Read all data sets that are large enough."""
    import pandas

    # lcdb itself cannot be imported without openml, and is not needed
    found = util.find_spec("lcdb")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("lcdb is not installed: pip install --no-deps lcdb==0.1.0")
    file = Path(found.submodule_search_locations[0]) / "database-accuracy.csv"
    table = pandas.read_csv(file, usecols=_COLUMNS)
    table = table[(table.outer_seed < _SPLITS) & (table.inner_seed < _SPLITS)]
    kept: dict[str, np.ndarray] = {}
    for name, rows in table.groupby("openmlid"):
        if rows.size_train.nunique() < _LEAST["anchors"]:
            continue
        wide = rows.pivot_table(
            index=["learner", "outer_seed", "inner_seed"],
            columns="size_train",
            values=["score_valid", "score_test"],
        ).dropna()  # trials that failed at an anchor, or ran out of time
        errors = 1 - wide["score_valid"].to_numpy()
        # accuracies have four digits; what differs beyond them is rounding
        errors = errors.round(6)
        if len(errors) < _LEAST["trials"] or len(np.unique(errors[:, -1])) < _LEAST["errors"]:
            continue
        last = 1 - wide["score_test"].iloc[:, -1]
        kept[f"{name}.errors"] = errors
        kept[f"{name}.tests"] = last.groupby(level="learner").transform("mean").to_numpy()
    return kept


def chosen(trace: Sequence[Moment], steps: float = np.inf, time: float = np.inf) -> int:
    """Return the row that would be chosen after so many steps, or at that time."""
    return next(moment.row for moment in reversed(trace) if moment.steps <= steps and moment.time <= time)


def ratio(
    ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], floors: Mapping[str, float]
) -> dict[str, Any]:
    """Return the geometric mean over tasks of our mean regret over that of the best of the others, which is
    chosen for every task; with bootstrap intervals and the worst task.

    Args:
        ours: by task a regret a seed, ``(seeds,)``.
        theirs: by task ``(others, seeds)``, of the same seeds.
        floors: what a mean below counts as, by task.

    Returns:
        ``ratio``; ``lower``, ``upper``: over seeds, the same ones for all tasks and arms, the best being
        chosen anew; ``lower_tasks``, ``upper_tasks``: over tasks; ``worst``, ``worst_task``; ``of TASK``.
    """
    tasks = sorted(ours)

    def of(rows: np.ndarray) -> np.ndarray:
        pairs = [
            (ours[task][rows].mean(), theirs[task][:, rows].mean(1).min(), floors[task]) for task in tasks
        ]
        return np.log([max(floor, own) / max(floor, best) for own, best, floor in pairs])

    seeds = len(ours[tasks[0]])
    rng = np.random.default_rng(0)
    here = of(np.arange(seeds))
    over_seeds = [of(rng.integers(seeds, size=seeds)).mean() for _ in range(_DRAWS)]
    over_tasks = here[rng.integers(len(tasks), size=(_DRAWS, len(tasks)))].mean(1)
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    (lower, upper), (lower_tasks, upper_tasks) = (
        np.exp(np.quantile(drawn, ends)) for drawn in (over_seeds, over_tasks)
    )
    worst = int(here.argmax())
    return {
        "ratio": float(np.exp(here.mean())),
        "lower": float(lower),
        "upper": float(upper),
        "lower_tasks": float(lower_tasks),
        "upper_tasks": float(upper_tasks),
        "worst": float(np.exp(here[worst])),
        "worst_task": tasks[worst],
    } | {f"of {task}": float(np.exp(value)) for task, value in zip(tasks, here, strict=True)}


Regrets = dict[str, dict[str, np.ndarray]]
"""By task and arm, ``(seeds,)``."""


def runs(
    tasks: Sequence[Curves], names: Sequence[str], seeds: int, workers: int, steps: float, time: float
) -> dict[str, dict[str, list[list[Moment]]]]:
    """Run arms on tasks; return the traces by task and arm.

    Args:
        steps: at most, in whole trainings.
        time: at most, likewise.
    """
    with quiet():
        return {
            task.name: {
                name: [
                    simulate(
                        task.errors,
                        ARMS[name],
                        seed,
                        workers,
                        int(min(steps, len(task.errors)) * task.steps),
                        time * task.steps,
                    )
                    for seed in range(seeds)
                ]
                for name in names
            }
            for task in tasks
        }


def regrets(
    tasks: Sequence[Curves],
    traces: Mapping[str, Mapping[str, Sequence[Sequence[Moment]]]],
    steps: float = np.inf,
    time: float = np.inf,
    learner: bool = False,
) -> Regrets:
    """Return the regrets after so many whole trainings, or after their time; by the learner where asked."""
    return {
        task.name: {
            name: np.array(
                [
                    (task.learner_regret if learner else task.regret)(
                        chosen(trace, steps * task.steps, time * task.steps)
                    )
                    for trace in found
                ]
            )
            for name, found in traces[task.name].items()
        }
        for task in tasks
    }


def compared(
    tasks: Sequence[Curves], found: Regrets, against: Sequence[str] = tuple(EXISTING)
) -> dict[str, Any]:
    """Return :func:`ratio` of our pruner over others."""
    return ratio(
        {task.name: found[task.name][OURS] for task in tasks},
        {task.name: np.stack([found[task.name][name] for name in against]) for task in tasks},
        {task.name: task.resolution for task in tasks},
    )


def over_none(tasks: Sequence[Curves], found: Regrets) -> dict[str, float]:
    """Return every arm's geometric mean over tasks of its regret over that without pruning."""
    floors = {task.name: task.resolution for task in tasks}

    def level(task: str, name: str) -> float:
        return float(np.log(max(floors[task], found[task][name].mean())))

    arms = list(found[tasks[0].name])
    return {
        name: float(np.exp(np.mean([level(task, name) - level(task, NONE) for task in floors])))
        for name in arms
    }


def figures(seeds: int = SEEDS, quick: bool = False, names: Sequence[int] = REPORTING) -> dict[str, Any]:
    """Return the figures; of them ``pruner_regret_ratio`` is the one with a target.

    Args:
        seeds: with one worker; for many see :data:`CROWDS`.
        quick: three data sets, three seeds, one worker and 16.
        names: of the data sets.
    """
    tasks = [load(name) for name in names[: 3 if quick else None]]
    traces = runs(tasks, list(ARMS), 3 if quick else seeds, 1, BUDGETS[-1], np.inf)
    result = _headline(tasks, regrets(tasks, traces, steps=MAIN))
    for budget in BUDGETS:
        found = regrets(tasks, traces, steps=budget)
        learners = regrets(tasks, traces, steps=budget, learner=True)
        result[f"1 worker, {budget} whole trainings"] = _both(tasks, found) | {
            "over no pruning, learner": over_none(tasks, learners)
        }
    for crowd in CROWDS[: 1 if quick else None]:
        some = tasks[: crowd.tasks]
        traces = runs(some, list(ARMS), 3 if quick else crowd.seeds, crowd.workers, np.inf, crowd.times[-1])
        for budget in BUDGETS:
            title = f"{crowd.workers} workers, {budget} whole trainings"
            result[title] = _both(some, regrets(some, traces, steps=budget))
        for time in crowd.times:
            title = f"{crowd.workers} workers, time of {time:g} whole trainings"
            result[title] = _both(some, regrets(some, traces, time=time))
    return result


def _headline(tasks: Sequence[Curves], found: Regrets) -> dict[str, Any]:
    """Return the figures of the issue, and the mean regrets that they are made of."""
    each, levels = compared(tasks, found), over_none(tasks, found)
    best = min(EXISTING, key=lambda name: levels[name])
    one = compared(tasks, found, [best])
    keys = ("", "_lower", "_upper", "_lower_tasks", "_upper_tasks")
    return (
        {f"pruner_regret_ratio{key}": each[key[1:] or "ratio"] for key in keys}
        | {"best existing over all tasks": best}
        | {f"pruner_regret_ratio_one{key}": one[key[1:] or "ratio"] for key in keys}
        | {
            "regrets": {
                task.name: {name: float(values.mean()) for name, values in found[task.name].items()}
                for task in tasks
            }
        }
    )


def _both(tasks: Sequence[Curves], found: Regrets) -> dict[str, Any]:
    return {
        "over the best existing": compared(tasks, found),
        "over no pruning": over_none(tasks, found),
    }


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables.curves")
    parser.add_argument("--quick", action="store_true", help="seconds, less precise")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    parser.add_argument("--tuning", action="store_true", help="the data sets that settings were chosen on")
    given = parser.parse_args()
    names = TUNING if given.tuning else REPORTING
    measured, where = figures(quick=given.quick, names=names), harness.environment()
    settings = {"quick": given.quick, "seeds": SEEDS, "tasks": list(names), "budgets": list(BUDGETS)}
    harness.report("tables.curves", measured, settings, where, given.json)


if __name__ == "__main__":
    main()
