"""Tries as many settings for every arm, on seeds that are in no table:
``python -m benchmarks.fronts.tuning [--seeds 100] [--arms ...]``.

An arm's first setting is that of the roster. What was run is kept; the best by the search split, over all
tasks, is for the roster to take.

A setting that was run is found by its values: ``results/fronts_tuning_settings.json`` gives the plain name of
every recorded setting and its plain values, whatever the classes are called by now.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from benchmarks.fronts.arms import RECIPE, Arm
from benchmarks.fronts.record import FOLDER, record, shard_file
from benchmarks.fronts.roster import ARMS, FAST
from benchmarks.fronts.tasks import TASKS

TRIED = FOLDER.with_name("fronts_tuning")
NAMES = FOLDER.with_name("fronts_tuning_settings.json")
"""Plain names of settings that were recorded before settings had a plain form, and what they stand for."""
_FASTER, _SLOW = replace(RECIPE, rate=2.5), replace(RECIPE, rate=0.5)
_PRUNING: list[dict[str, Any]] = [
    {},
    {"dense": 0.45},
    {"recipe": FAST},
    {"dense": 0.3},
    {"later": 0.5},
    {"later": 2.5},
]
_SCRATCH: list[dict[str, Any]] = [
    {},
    {"sizes": 6},
    {"recipe": RECIPE},
    {"recipe": _FASTER},
    {"sizes": 16},
    {"share": "epochs"},
]
_ALONE = {"distilled": 1.0, "repeats": 0.0}  # the teacher is, without labels and mixtures
_SEARCHED: list[dict[str, Any]] = [
    {},
    {"dense": 0.3},
    {"recipe": FAST},
    {"search": 0.25},
    {"steps": 60},
    {"finals": 20},
]
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "lineages": [
        {},
        {"dense": 0.3},
        {"first": 1.0},
        {"rounds": 20},
        {"power": 0.5},
        {"growth": 0.2, "noise": 0.3, "tilt": 0.3},
    ],
    "lineages, other network": [
        {},
        {"dense": 0.3},
        {"width": 1.0},
        {"width": 0.5},
        {"width": 0.85},
        {"power": 0.5},
    ],
    "off the shelf": [
        {},
        {"sizes": 10},
        {"recipe": FAST},
        {"sizes": 16},
        {"share": "epochs"},
        {"recipe": _SLOW},
    ],
    "uniform width": _SCRATCH,
    "uniform width, distilled": [{}, {"dense": 0.2}, _ALONE, *_SCRATCH[1:4]],
    "iterative magnitude, distilled": [{}, _ALONE, {"dense": 0.2}, *_PRUNING[3:]],
    "iterative magnitude": _PRUNING,
    "iterative magnitude, other network": [{}, {"dense": 0.2}, *_PRUNING[2:]],
    "Torch-Pruning, iterative Taylor": [
        {},
        {"dense": 0.45},
        {"recipe": FAST},
        {"rounds": 30},
        {"later": 1.5},
        {"share": "between"},
    ],
    "random widths": _SCRATCH,
    "regularised evolution": _SEARCHED,
    "Optuna TPE": _SEARCHED,
    "Optuna NSGA-II": _SEARCHED,
    "one-shot magnitude": _PRUNING,
}
"""What differs from the roster's, six settings an arm, in its own attributes or in those of the arm that it
is made of; arms that are not here are made of ones that are."""


def variant(arm: Arm, number: int) -> Arm:
    """Return an arm in its so many-th setting, with a name of its own: that under which the setting was
    recorded, else the arm's and eight digits that stand for the values.
    """
    changed = _changed(arm, SETTINGS[arm.name][number])
    text = _text(changed.setting)
    name = _recorded().get((arm.name, text)) or f"{arm.name} {hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return cast(Arm, replace(cast(Any, changed), name=name))


def _changed(arm: Arm, changes: dict[str, Any]) -> Arm:
    """Return an arm that differs in these attributes, its own or those of the arm it is made of."""
    fields = vars(arm)
    own = {name: value for name, value in changes.items() if name in fields}
    inner = {name: value for name, value in changes.items() if name not in fields}
    return cast(
        Arm, replace(cast(Any, arm), **own | ({"arm": _changed(fields["arm"], inner)} if inner else {}))
    )


@cache
def _recorded() -> dict[tuple[str, str], str]:
    """Names of the recorded settings, by arm and values."""
    found = json.loads(NAMES.read_text())
    return {(name.rpartition(" ")[0], _text(setting)): name for name, setting in found.items()}


def _text(setting: dict[str, Any]) -> str:
    return json.dumps(setting, sort_keys=True)


def replay(folder: Path = TRIED, seed: int = 100) -> dict[str, dict[str, float]]:
    """Return what today's settings reached where they are recorded, without running any: hypervolumes on the
    search split by arm and number of its setting, then by task.
    """
    found: dict[str, dict[str, float]] = {}
    for name, settings in SETTINGS.items():
        for number in range(len(settings)):
            tried = variant(ARMS[name], number)
            files = {task: shard_file(folder, task, tried.name, seed, 1.0) for task in TASKS}
            reached = {
                task: json.loads(file.read_text())["hypervolume_search"]
                for task, file in files.items()
                if file.exists()
            }
            if reached:
                found[f"{name}, setting {number}"] = reached
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing and print what every setting reached, arm by arm."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fronts.tuning")
    parser.add_argument("--seeds", nargs="+", type=int, default=[100])
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--arms", nargs="*", default=list(SETTINGS))
    parser.add_argument("--share", type=float, default=1.0, help="of the budget")
    parser.add_argument("--settings", nargs="*", type=int, default=range(6), help="which of every arm's")
    parser.add_argument("--replay", action="store_true", help="print what is recorded, and run nothing")
    given = parser.parse_args(arguments)
    if given.replay:
        print(json.dumps(replay(), indent=1))
        return
    if any(seed < 100 for seed in given.seeds):
        parser.error("seeds below 100 are for the table")
    torch.set_num_threads(1)
    for name in given.arms:
        for number in given.settings:
            runs = [
                record(TRIED, task, variant(ARMS[name], number), seed, given.share)
                for task, seed in itertools.product(given.tasks, given.seeds)
            ]
            found = np.array([run["hypervolume_search"] for run in runs]).reshape(len(given.tasks), -1)
            each = ", ".join(f"{task} {row.mean():.3f}" for task, row in zip(given.tasks, found, strict=True))
            mean, seconds = float(np.exp(np.log(found).mean())), sum(run["seconds"] for run in runs)
            print(f"{name} {SETTINGS[name][number]}: {mean:.3f} ({each}) in {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
