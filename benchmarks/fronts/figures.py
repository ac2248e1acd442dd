"""What the shards say: ours over the best control, paired by seed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.fronts.latency import LATENCIES, latency_ratio
from benchmarks.fronts.record import FOLDER
from benchmarks.fronts.roster import ABLATIONS, MAIN, OURS, oracle_arm
from benchmarks.fronts.rungs import RUNGS, correlations
from benchmarks.harness import spread

Table = dict[str, dict[str, dict[float, dict[int, dict[str, Any]]]]]
"""Shards by task, arm, share of the budget and seed."""


def figures(folder: Path = FOLDER) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return ``hypervolume_ratio``, ``compute_ratio``, ``loss_at_half`` and hypervolumes by task and arm, and
    the seeds they rest on.

    The best control of a task is the one with the largest mean over the seeds that it and ours were run on;
    ``hypervolume_ratio_strict`` takes the best of every single seed, which no user could have known, and
    which is luck in part; ``hypervolume_ratio_ablations`` is over the best of those that share ours' training
    (:mod:`benchmarks.fronts.roster`). ``compute_ratio_told`` is that of the oracle network: ours on the
    network that the best control prunes, without the heats that find out which one to prune.
    """
    table = read(folder)
    controls, ablations = _matches(table, _is_control), _matches(table, lambda arm: arm in ABLATIONS)
    computes = {task: _computes(table[task][MAIN], match) for task, match in controls.items()}
    oracles = {
        task: _computes(table[task].get(oracle_arm(match.rival), {}), match)
        for task, match in controls.items()
    }
    worst_ratio = min((_geometric(match.ratios) for match in controls.values()), default=None)
    worst_compute = max((float(np.median(found)) for found in computes.values()), default=None)
    return {
        "hypervolume_ratio": _overall(controls),
        "hypervolume_ratio_worst_task": worst_ratio,
        "hypervolume_ratio_strict": _overall(_matches(table, _is_control, strict=True)),
        "hypervolume_ratio_by_task": {task: match.figures() for task, match in controls.items()},
        "hypervolume_ratio_ablations": _overall(ablations),
        "hypervolume_ratio_ablations_by_task": {task: match.figures() for task, match in ablations.items()},
        "compute_ratio_worst_task": worst_compute,
        "compute_ratio": {task: spread(found) for task, found in computes.items()},
        "compute_ratio_told": {task: spread(found) for task, found in oracles.items() if found},
        **(_pieces() if folder == FOLDER else {}),
        "loss_at_half": {task: _at_half(arms) for task, arms in table.items()},
        "hypervolume": {task: _hypervolumes(arms) for task, arms in table.items()},
    }, {
        "seeds": {
            task: {arm: sorted(by.get(1.0, {})) for arm, by in arms.items()} for task, arms in table.items()
        }
    }


def read(folder: Path) -> Table:
    """Return all shards of a folder."""
    table: Table = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    for file in sorted(folder.glob("*.json")):
        shard = json.loads(file.read_text())
        table[shard["task"]][shard["arm"]][shard["share"]][shard["seed"]] = shard
    return table


def _hypervolumes(arms: dict[str, dict[float, dict[int, dict[str, Any]]]]) -> dict[str, dict[str, float]]:
    """Hypervolumes on the test split, by arm and share of the budget."""
    return {
        arm if share == 1 else f"{arm}, {share:g} of the budget": spread(
            shard["hypervolume"] for shard in seeds.values()
        )
        for arm, by in arms.items()
        for share, seeds in by.items()
    }


@dataclass(frozen=True)
class Match:
    """Ours against the best of some arms on a task: its name, and hypervolumes by seed."""

    rival: str
    theirs: dict[int, float]
    ours: dict[int, float]

    @property
    def ratios(self) -> list[float]:
        """Ours over theirs, seed by seed."""
        return [self.ours[seed] / value for seed, value in self.theirs.items()]

    def figures(self) -> dict[str, Any]:
        """All there is to say of the ratios."""
        return {
            "rival": self.rival,
            "mean": _geometric(self.ratios),
            "interval": _interval(self.ratios),
        } | spread(self.ratios)


def _matches(table: Table, rival: Callable[[str], bool], strict: bool = False) -> dict[str, Match]:
    """Return a match for every task on which there is one; `strict` takes the best rival of every single
    seed.
    """
    found = {}
    for task, arms in table.items():
        values = {
            arm: {seed: s["hypervolume"] for seed, s in shares.get(1.0, {}).items()}
            for arm, shares in arms.items()
        }
        ours = values.get(MAIN, {})
        rivals = {
            arm: {s: by[s] for s in sorted(by.keys() & ours)}
            for arm, by in values.items()
            if rival(arm) and by.keys() & ours
        }
        if rivals:
            best = max(rivals, key=lambda arm: np.mean(list(rivals[arm].values())))
            goals = (
                {s: max(by.get(s, 0.0) for by in rivals.values()) for s in rivals[best]}
                if strict
                else rivals[best]
            )
            found[task] = Match(best, goals, ours)
    return found


def _overall(matches: dict[str, Match]) -> float | None:
    """The geometric mean over tasks and seeds."""
    return _geometric(_geometric(match.ratios) for match in matches.values()) if matches else None


def _is_control(arm: str) -> bool:
    return arm not in OURS and arm not in ABLATIONS


def _pieces() -> dict[str, Any]:
    """What was recorded of the rungs and of latencies."""
    rungs, latencies = correlations(RUNGS), latency_ratio(LATENCIES)
    last = [
        list(by.values())[-2]["tau"] for by in rungs.values()
    ]  # the very last is the truth's own rung, by the search split
    return {
        "rank_correlation_last_rung": min(last, default=None),
        "rank_correlation": rungs,
        "latency_largest_deviation": latencies and latencies["largest_deviation"],
        "latency_ratio": latencies,
    }


def _computes(shares: dict[float, dict[int, dict[str, Any]]], match: Match) -> list[float]:
    """The smallest shares of the budget at which an arm has what its rival ends with, seed by seed; twice the
    budget where none has.
    """
    found = []
    for seed, goal in match.theirs.items():
        values = {share: by[seed]["hypervolume"] for share, by in shares.items() if seed in by}
        if values:
            found.append(min((share for share, value in values.items() if value >= goal), default=2.0))
    return found


def _at_half(arms: dict[str, dict[float, dict[int, dict[str, Any]]]]) -> dict[str, dict[str, float]]:
    """Test loss, over the constant predictor's, of every arm's best at most at half the MACs, minus that of
    the best unpruned network that any arm trained on the seed, by the search split."""
    points = {
        arm: {seed: shard["points"] for seed, shard in shares.get(1.0, {}).items()}
        for arm, shares in arms.items()
    }
    best = _unpruned(points.values())
    differences = {
        arm: [
            _chosen(half) - best[seed]
            for seed, found in by.items()
            if seed in best and (half := [p for p in found if p["macs"] <= 0.5])
        ]
        for arm, by in points.items()
    }
    return {arm: spread(found) for arm, found in differences.items() if found}


def _unpruned(arms: Iterable[dict[int, list[dict[str, float]]]]) -> dict[int, float]:
    """Test loss of the best unpruned network of every seed."""
    whole: dict[int, list[dict[str, float]]] = defaultdict(list)
    for by in arms:
        for seed, found in by.items():
            whole[seed] += [p for p in found if p["macs"] == 1.0]
    return {seed: _chosen(found) for seed, found in whole.items() if found}


def _chosen(points: Iterable[dict[str, float]]) -> float:
    """Test loss of the best by the search split."""
    return min(points, key=lambda p: p["search"])["test"]


def _interval(ratios: Sequence[float]) -> list[float] | None:
    """Limits of 90 % of the geometric mean, by Student's t on the logarithms; None of a single one."""
    if len(ratios) < 2:
        return None
    logs = np.log(ratios)
    return [
        float(x)
        for x in np.exp(
            stats.t.interval(0.9, len(logs) - 1, logs.mean(), logs.std(ddof=1) / len(logs) ** 0.5)
        )
    ]


def _geometric(values: Iterable[float]) -> float:
    return float(np.exp(np.mean(np.log(list(values)))))
