"""Fronts on digits, ours over the best control, paired by seed."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.coevolution.arms import EPOCHS, TASKS
from benchmarks.coevolution.faithful import FOLDER
from benchmarks.harness import spread

OURS = "coevolution"
"""The arm of the product that the figure is about."""
GUIDED = (("coevolution", "coevolution, random pruning"), ("one cell", "one cell, random pruning"))
"""Guided pruning, and random pruning to the same sizes at the same steps; a cell alone at half the budget."""


Table = dict[str, dict[str, dict[int, float]]]
"""Hypervolumes by task, arm and seed."""


def front_figures(folder: Path = FOLDER) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return hypervolumes by task and arm and ``digits_hypervolume_ratio``, None where ours was not run on
    both tasks, and settings.

    The ratio is ours over the best control's of the same seed, its median over seeds, of the worse task.
    """
    values, lone = _table(folder, "front"), _table(folder, "lone")
    ratios = {task: found for task, arms in values.items() if (found := _ratios(arms))}
    medians = [float(np.median(found)) for found in ratios.values()]
    figures = {
        "digits_hypervolume_ratio": min(medians) if len(medians) == len(TASKS) else None,
        "digits_hypervolume_ratios": {task: spread(found) for task, found in ratios.items()},
        "guided_over_random": _guided_over_random(values, lone),
        "digits_hypervolume": _spreads(values),
        "lone_hypervolume": _spreads(lone),
    }
    return figures, {
        "front_epochs": EPOCHS,
        "front_seeds": {task: {arm: list(f) for arm, f in arms.items()} for task, arms in values.items()},
    }


def _table(folder: Path, setting: str) -> Table:
    """Read the shards of a setting."""
    found: Table = defaultdict(lambda: defaultdict(dict))
    for file in sorted(folder.glob("*.json")):
        shard = json.loads(file.read_text())
        if shard.get("setting") == setting:
            found[shard["task"]][shard["arm"]][shard["seed"]] = shard["hypervolume"]
    return found


def _spreads(table: Table) -> dict[str, dict[str, dict[str, float]]]:
    return {
        task: {arm: spread(found.values()) for arm, found in arms.items()} for task, arms in table.items()
    }


def _guided_over_random(values: Table, lone: Table) -> dict[str, dict[str, float]]:
    """Guided pruning over random pruning, by task and arm."""
    found = {}
    for task in values:
        for arms in (values[task], lone.get(task, {})):
            for guided, random in GUIDED:
                if ratios := _guided(arms, guided, random):
                    found[f"{task}: {guided}"] = spread(ratios)
    return found


def _ratios(arms: dict[str, dict[int, float]]) -> list[float]:
    """Ours over the best control, of every seed that has controls; not all of them need have run."""
    others = [found for arm, found in arms.items() if arm != OURS]
    best = {
        seed: max(found[seed] for found in others if seed in found)
        for seed in {s for found in others for s in found}
    }
    return [value / best[seed] for seed, value in arms.get(OURS, {}).items() if seed in best]


def _guided(arms: dict[str, dict[int, float]], guided: str, random: str) -> list[float]:
    """Of the seeds that both arms have."""
    return [
        value / arms[random][seed]
        for seed, value in arms.get(guided, {}).items()
        if seed in arms.get(random, {})
    ]
