"""Tries as many settings for every arm, on seeds that are in no table: ``python -m benchmarks.fronts.tuning [--seeds 100] [--arms ...]``.

An arm's first setting is that of the roster. What was run is kept; the best by the search split, over all tasks, is for the roster to take.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch

from benchmarks.fronts.arms import RECIPE, Arm
from benchmarks.fronts.record import FOLDER, record
from benchmarks.fronts.roster import CONTROLS, OURS
from benchmarks.fronts.tasks import TASKS

TRIED = FOLDER.with_name("fronts_tuning")
_FAST, _SLOW = replace(RECIPE, rate=1.6), replace(RECIPE, rate=0.5)
_PRUNING: list[dict[str, Any]] = [{}, {"dense": 0.35}, {"rounds": 15}, {"later": 1.0}, {"share": "epochs"}, {"recipe": _FAST}]
_SCRATCH: list[dict[str, Any]] = [{}, {"sizes": 6}, {"sizes": 16}, {"share": "epochs"}, {"recipe": _FAST}, {"recipe": _SLOW}]
_SEARCHED: list[dict[str, Any]] = [{}, {"dense": 0.3}, {"search": 0.25}, {"steps": 60}, {"finals": 20}, {"recipe": _FAST}]
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "lineages": [{}, {"dense": 0.3}, {"rounds": 45}, {"growth": 0.4, "noise": 0.2, "tilt": 0.3}, {"stretch": 0.6}, {"rate": 1.6}],
    "one-shot magnitude": _PRUNING,
    "iterative magnitude": _PRUNING,
    "iterative magnitude, distilled": [*_PRUNING[:4], {"mixtures": 0.03}, _PRUNING[5]],
    "uniform width": _SCRATCH,
    "uniform width, distilled": [*_SCRATCH[:3], {"mixtures": 0.03}, _SCRATCH[4], {"dense": 0.35}],
    "random widths": _SCRATCH,
    "off the shelf": _SCRATCH,
    "Torch-Pruning, iterative Taylor": [{}, {"dense": 0.35}, {"rounds": 30}, {"later": 1.0}, {"share": "between"}, {"recipe": _FAST}],
    "Optuna TPE": _SEARCHED,
    "Optuna NSGA-II": _SEARCHED,
    "regularised evolution": _SEARCHED,
}
"""What differs from the roster's, six settings an arm."""


def variant(arm: Arm, number: int) -> Arm:
    """Return an arm in its so many-th setting, named so."""
    return cast(Arm, replace(cast(Any, arm), name=f"{arm.name} {number}", **SETTINGS[arm.name][number]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing and print what every setting reached, arm by arm."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fronts.tuning")
    parser.add_argument("--seeds", nargs="+", type=int, default=[100])
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--arms", nargs="*", default=[*OURS, *CONTROLS])
    parser.add_argument("--share", type=float, default=1.0, help="of the budget")
    parser.add_argument("--settings", type=int, default=6, help="how many of every arm, the first ones")
    given = parser.parse_args(arguments)
    if any(seed < 100 for seed in given.seeds):
        parser.error("seeds below 100 are for the table")
    torch.set_num_threads(1)
    for name in given.arms:
        for number, setting in enumerate(SETTINGS[name][: given.settings]):
            runs = [
                record(TRIED, task, variant((OURS | CONTROLS)[name], number), seed, given.share)
                for task, seed in itertools.product(given.tasks, given.seeds)
            ]
            found = np.array([run["hypervolume_search"] for run in runs]).reshape(len(given.tasks), -1)
            each = ", ".join(f"{task} {row.mean():.3f}" for task, row in zip(given.tasks, found, strict=True))
            mean, seconds = float(np.exp(np.log(found).mean())), sum(run["seconds"] for run in runs)
            print(f"{name} {setting}: {mean:.3f} ({each}) in {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
