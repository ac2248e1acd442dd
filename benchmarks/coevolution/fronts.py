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


def front_figures(folder: Path = FOLDER) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return hypervolumes by task and arm and ``digits_hypervolume_ratio``, None where ours was not run on
    both tasks, and settings.

    The ratio is ours over the best control's of the same seed, its median over seeds, of the worse task.
    """
    values: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    lone: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for file in sorted(folder.glob("*.json")):
        shard = json.loads(file.read_text())
        if shard.get("setting") in ("front", "lone"):
            kind = values if shard["setting"] == "front" else lone
            kind[shard["task"]][shard["arm"]][shard["seed"]] = shard["hypervolume"]
    ratios = {task: _ratios(arms) for task, arms in values.items()}
    medians = [float(np.median(found)) for found in ratios.values() if found]
    figures = {
        "digits_hypervolume_ratio": min(medians) if len(medians) == len(TASKS) else None,
        "digits_hypervolume_ratios": {task: spread(found) for task, found in ratios.items() if found},
        "guided_over_random": {
            f"{task}: {guided}": spread(found)
            for task in values
            for arms in (values[task], lone[task])
            for guided, random in GUIDED
            if (found := _guided(arms, guided, random))
        },
        "digits_hypervolume": {
            task: {arm: spread(found.values()) for arm, found in arms.items()}
            for task, arms in values.items()
        },
        "lone_hypervolume": {
            task: {arm: spread(found.values()) for arm, found in arms.items()}
            for task, arms in lone.items()
            if arms
        },
    }
    return figures, {
        "front_epochs": EPOCHS,
        "front_seeds": {task: {arm: list(f) for arm, f in arms.items()} for task, arms in values.items()},
    }


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
