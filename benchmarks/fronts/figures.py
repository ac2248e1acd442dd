"""What the shards say: ours over the best control, paired by seed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fronts.latency import LATENCIES, latency_ratio
from benchmarks.fronts.record import FOLDER
from benchmarks.fronts.roster import MAIN, OURS
from benchmarks.fronts.rungs import RUNGS, correlations
from benchmarks.harness import spread

Values = dict[int, float]
"""By seed."""


def figures(folder: Path = FOLDER) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return ``hypervolume_ratio``, ``compute_ratio``, ``error_at_half`` and hypervolumes by task and arm, and the seeds they rest on."""
    table: dict[str, dict[str, dict[float, dict[int, dict[str, Any]]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    for file in sorted(folder.glob("*.json")):
        shard = json.loads(file.read_text())
        table[shard["task"]][shard["arm"]][shard["share"]][shard["seed"]] = shard
    ratios, computes = {}, {}
    for task, arms in table.items():
        values = {arm: {seed: s["hypervolume"] for seed, s in shares.get(1.0, {}).items()} for arm, shares in arms.items()}
        best = _best({arm: found for arm, found in values.items() if arm not in OURS})
        ratios[task] = [value / best[seed] for seed, value in values.get(MAIN, {}).items() if seed in best]
        computes[task] = [reached for seed in best if (reached := _reaches(arms.get(MAIN, {}), seed, best[seed])) is not None]
    medians = {task: _geometric(found) for task, found in ratios.items() if found}
    return {
        "hypervolume_ratio": _geometric(medians.values()) if medians else None,
        "hypervolume_ratio_by_task": {task: {"mean": medians[task]} | spread(found) for task, found in ratios.items() if found},
        "rank_correlation": correlations(RUNGS) if folder == FOLDER else {},
        "latency_ratio": latency_ratio(LATENCIES) if folder == FOLDER else None,
        "compute_ratio": {task: spread(found) for task, found in computes.items() if found},
        "loss_at_half": {task: {arm: spread(found) for arm, s in arms.items() if (found := _at_half(s))} for task, arms in table.items()},
        "hypervolume": {
            task: {
                f"{arm}, {share:g}": spread(s["hypervolume"] for s in seeds.values())
                for arm, by in arms.items()
                for share, seeds in by.items()
            }
            for task, arms in table.items()
        },
    }, {"seeds": {task: {arm: sorted(by.get(1.0, {})) for arm, by in arms.items()} for task, arms in table.items()}}


def _best(values: dict[str, Values]) -> Values:
    """The best arm's value of every seed that all of them have."""
    seeds = set.intersection(*(set(found) for found in values.values())) if values else set()
    return {seed: max(found[seed] for found in values.values()) for seed in seeds}


def _reaches(shares: dict[float, dict[int, dict[str, Any]]], seed: int, goal: float) -> float | None:
    """The smallest share of the budget at which a run reaches a hypervolume; twice the budget where none does, None where none was run."""
    known = {share: found[seed]["hypervolume"] for share, found in shares.items() if seed in found}
    return min((share for share, value in known.items() if value >= goal), default=2.0) if known else None


def _at_half(shares: dict[float, dict[int, dict[str, Any]]]) -> list[float]:
    """Test loss, over the constant predictor's, of the best by search at most half the MACs, minus that of the unpruned network."""
    found = []
    for shard in shares.get(1.0, {}).values():
        half = [p for p in shard["points"] if p["macs"] <= 0.5]
        whole = [p for p in shard["points"] if p["macs"] == 1.0]
        if half and whole:
            found.append(min(half, key=lambda p: p["search"])["test"] - whole[0]["test"])
    return found


def _geometric(values: Iterable[float]) -> float:
    return float(np.exp(np.mean(np.log(list(values)))))
