"""What a search costs that stops early, and what its cells are worth.
``python -m benchmarks.cells [--quick] [--json FILE]``

It replays the table that ``python -m benchmarks.cells.stages`` records (committed). Costs are CPU seconds of
the searching process on one thread, since the wall clock of a shared machine depends on what else runs
there; wall clock and multiply-accumulates stand beside them. Qualities are those of retrained cells on the
test split, averaged over retrainings and paired by seed: data, first weights, order of samples and the seeds
of retraining are the same for all rules.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from benchmarks.cells.rules import EQUAL_COST, HAND, OURS
from benchmarks.cells.tasks import FOLDER, TASKS

MARGIN = 0.01
"""A threshold by hand counts as good where its quality is at most that much below the full search's."""

Shard = dict[str, Any]


def shards(folder: Path, task: str, seeds: Sequence[int] = range(100)) -> list[Shard]:
    """Return the complete shards of a task in the order of their seeds."""
    files = [folder / f"{task}-{seed}.json" for seed in seeds]
    found = [json.loads(file.read_text()) for file in files if file.exists()]
    return [
        shard
        for shard in found
        if all(len(shard["retrained"].get(run["genotype"], ())) > 1 for run in shard["runs"].values())
    ]


def quality(shard: Shard, name: str) -> float:
    """Return the test metric of a run's cell, the mean over its retrainings."""
    metric = f"test_{TASKS[shard['task']].metric}"
    return float(
        np.mean([metrics[metric] for metrics in shard["retrained"][shard["runs"][name]["genotype"]].values()])
    )


def total(shard: Shard, name: str, key: str = "cpu_seconds") -> float:
    """Return what a run cost."""
    return float(np.sum(shard["runs"][name][key]))


def geometric(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def difference(values: Sequence[float]) -> dict[str, float | None]:
    """Return mean, standard error, and the lower one-sided 90 % limit of paired differences; None where one
    pair is all there is.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return {"mean": float(array.mean()), "error": None, "lower": None, "n": len(array)}
    error = float(array.std(ddof=1) / np.sqrt(len(array)))
    return {
        "mean": float(array.mean()),
        "error": error,
        "lower": float(array.mean() - student.ppf(0.9, len(array) - 1) * error),
        "n": len(array),
    }


def against(found: Sequence[Shard], one: str, other: str) -> dict[str, float | None]:
    """Return the difference of two runs' qualities."""
    return difference([quality(shard, one) - quality(shard, other) for shard in found])


def memory(shard: Shard, name: str) -> tuple[float, float]:
    """Return the bytes of a run averaged over its time, and its largest after the first removal, both over
    the full search's.

    A search without any removal has no such peak: 1.
    """
    full, run = shard["runs"]["full"], shard["runs"][name]
    average = np.average(run["memory"], weights=run["cpu_seconds"]) / np.average(
        full["memory"], weights=full["cpu_seconds"]
    )
    first = min((int(epoch) for epoch in run["removed"]), default=run["epochs"])
    later = run["memory"][first:]
    return float(average), float(max(later) / max(full["memory"])) if later else 1.0


def price(found: Sequence[Shard], name: str) -> float:
    """Return what a rule costs on average."""
    return float(np.mean([total(shard, name) for shard in found]))


def best_threshold(found: Sequence[Shard]) -> tuple[str, bool]:
    """Return the best threshold by hand, and whether it is good: the cheapest one of those that lose no more
    than :data:`MARGIN` against the full search, or where none is, the one with the best cells.
    """
    over = {name: against(found, name, "full")["mean"] or 0.0 for name in HAND}
    good = [name for name, mean in over.items() if mean >= -MARGIN]
    if good:
        return min(good, key=lambda name: price(found, name)), True
    return max(HAND, key=over.__getitem__), False


def over_random_cells(found: Sequence[Shard], randoms: Sequence[str]) -> dict[str, float | None]:
    """Return the full search's quality over the mean one of random cells."""
    return difference(
        [quality(s, "full") - float(np.mean([quality(s, name) for name in randoms])) for s in found]
    )


def same_operations(shard: Shard) -> list[bool]:
    """Return, edge by edge, whether ours ends with the operation that the full search ends with."""
    ours, full = (shard["runs"][name]["best"] for name in (OURS, "full"))
    return [ours[edge] == operation for edge, operation in full.items()]


def of_arm(found: Sequence[Shard], name: str, searched: bool) -> dict[str, Any]:
    """Return the figures of one rule, or of a random cell, which took no search."""
    figures: dict[str, Any] = {
        "quality": float(np.mean([quality(s, name) for s in found])),
        "over_full": against(found, name, "full"),
    }
    if searched:
        figures["cost_share"] = float(np.mean([total(s, name) / total(s, "full") for s in found]))
        figures["epochs"] = float(np.mean([s["runs"][name]["epochs"] for s in found]))
    return figures


def of_task(found: Sequence[Shard]) -> dict[str, Any]:
    """Return all figures of one task."""
    randoms = [name for name in found[0]["runs"] if name.startswith("random ") and name.split()[1].isdigit()]
    searched = ("full", OURS, *HAND, *EQUAL_COST)
    over_random = over_random_cells(found, randoms)
    best, good = best_threshold(found)
    memories = np.array([memory(s, OURS) for s in found])

    def cheaper(key: str) -> float:
        """How many times as much the full search costs."""
        return geometric([total(s, "full", key) / total(s, OURS, key) for s in found])

    return {
        "seeds": [s["seed"] for s in found],
        "cost_ratio": cheaper("cpu_seconds"),
        "cost_ratio_wall": cheaper("seconds"),
        "cost_ratio_macs": cheaper("macs"),
        "quality_difference": against(found, OURS, "full"),
        "searched_over_random_cells": over_random,
        "valid": bool(over_random["error"] and (over_random["mean"] or 0.0) >= 2 * over_random["error"]),
        "same_operation_share": float(np.mean([same_operations(s) for s in found])),
        "ours_over_rivals": {name: against(found, OURS, name) for name in EQUAL_COST},
        "calibrated_cost_vs_best": price(found, OURS) / price(found, best),
        "best_threshold": best,
        "best_threshold_is_good": good,
        "memory_average": float(memories[:, 0].mean()),
        "memory_peak_after_removal": float(memories[:, 1].mean()),
        "before": float(np.mean([list(s["before"].values()) for s in found])) if found[0]["before"] else None,
        "arms": {name: of_arm(found, name, True) for name in searched}
        | {name: of_arm(found, name, False) for name in randoms},
    }


def measure(quick: bool, folder: Path = FOLDER) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures and settings; of the tasks together the worse one counts."""
    table = {task: of_task(found) for task in TASKS if (found := shards(folder, task))}

    def worst(
        pick: Callable[[dict[str, Any]], float | None], choose: Callable[..., float] = min
    ) -> float | None:
        values = [pick(figures) for figures in table.values()]
        known = [value for value in values if value is not None]
        return choose(known) if known and len(known) == len(values) else None

    figures: dict[str, Any] = {
        "cost_ratio": worst(lambda f: f["cost_ratio"]),
        "cost_ratio_valid": bool(table) and all(f["valid"] for f in table.values()),
        "quality_difference": worst(lambda f: f["quality_difference"]["mean"]),
        "quality_difference_lower": worst(lambda f: f["quality_difference"]["lower"]),
        "same_operation_share": worst(lambda f: f["same_operation_share"]),
        "ours_over_random_removal": worst(lambda f: f["ours_over_rivals"]["random removal"]["mean"]),
        "ours_over_fixed_stop": worst(lambda f: f["ours_over_rivals"]["fixed stop"]["mean"]),
        "calibrated_cost_vs_best": worst(lambda f: f["calibrated_cost_vs_best"], max),
        "memory_average": worst(lambda f: f["memory_average"], max),
        "memory_peak_after_removal": worst(lambda f: f["memory_peak_after_removal"], max),
        "tasks": table,
    }
    settings = {
        task: {
            "epochs": TASKS[task].epochs,
            "warmup": TASKS[task].search["warmup"],
            "retraining_epochs": TASKS[task].retrain["epochs"],
            "ours": TASKS[task].plain_rule,
        }
        for task in table
    }
    return figures, settings
