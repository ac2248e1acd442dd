"""What the shards say: ours over the best control, paired by seed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.fronts.latency import LATENCIES, latency_ratio
from benchmarks.fronts.record import FOLDER
from benchmarks.fronts.roster import MAIN, OURS
from benchmarks.fronts.rungs import RUNGS, correlations
from benchmarks.harness import spread


def figures(folder: Path = FOLDER) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return ``hypervolume_ratio``, ``compute_ratio``, ``loss_at_half`` and hypervolumes by task and arm, and the seeds they rest on.

    The best control of a task is the one with the largest mean; ``hypervolume_ratio_strict`` takes the best of every single seed, which
    no user could have known, and which is luck in part.
    """
    table: dict[str, dict[str, dict[float, dict[int, dict[str, Any]]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    for file in sorted(folder.glob("*.json")):
        shard = json.loads(file.read_text())
        table[shard["task"]][shard["arm"]][shard["share"]][shard["seed"]] = shard
    ratios, strict, computes, bests = {}, {}, {}, {}
    for task, arms in table.items():
        values = {arm: {seed: s["hypervolume"] for seed, s in shares.get(1.0, {}).items()} for arm, shares in arms.items()}
        controls = {arm: found for arm, found in values.items() if arm not in OURS}
        seeds = sorted(set.intersection(*(set(found) for found in (values.get(MAIN, {}), *controls.values()))))
        if not seeds or not controls:
            continue
        bests[task] = max(controls, key=lambda arm: np.mean([controls[arm][seed] for seed in seeds]))
        best = {seed: controls[bests[task]][seed] for seed in seeds}
        ratios[task] = [values[MAIN][seed] / best[seed] for seed in seeds]
        strict[task] = [values[MAIN][seed] / max(found[seed] for found in controls.values()) for seed in seeds]
        computes[task] = [reached for seed in best if (reached := _reaches(arms.get(MAIN, {}), seed, best[seed])) is not None]
    means = {task: _geometric(found) for task, found in ratios.items()}
    return {
        "hypervolume_ratio": _geometric(means.values()) if means else None,
        "hypervolume_ratio_worst_task": min(means.values(), default=None),
        "hypervolume_ratio_strict": _geometric(map(_geometric, strict.values())) if strict else None,
        "hypervolume_ratio_by_task": {
            task: {"best_control": bests[task], "mean": means[task], "interval": _interval(found)} | spread(found)
            for task, found in ratios.items()
        },
        "compute_ratio_worst_task": max((float(np.median(found)) for found in computes.values() if found), default=None),
        "compute_ratio": {task: spread(found) for task, found in computes.items() if found},
        **(_pieces() if folder == FOLDER else {}),
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


def _pieces() -> dict[str, Any]:
    """What was recorded of the rungs and of latencies."""
    rungs, latencies = correlations(RUNGS), latency_ratio(LATENCIES)
    last = [list(by.values())[-2]["tau"] for by in rungs.values()]  # the very last is the truth's own rung, by the search split
    return {
        "rank_correlation_last_rung": min(last, default=None),
        "rank_correlation": rungs,
        "latency_largest_deviation": latencies and latencies["largest_deviation"],
        "latency_ratio": latencies,
    }


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


def _interval(ratios: Sequence[float]) -> list[float] | None:
    """Limits of 90 % of the geometric mean, by Student's t on the logarithms; None of a single one."""
    if len(ratios) < 2:
        return None
    logs = np.log(ratios)
    return [float(x) for x in np.exp(stats.t.interval(0.9, len(logs) - 1, logs.mean(), logs.std(ddof=1) / len(logs) ** 0.5))]


def _geometric(values: Iterable[float]) -> float:
    return float(np.exp(np.mean(np.log(list(values)))))
