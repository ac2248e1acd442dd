"""The figures of the tables, from what was recorded."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables.arms import ARMS, OPPONENTS, OURS, SLOW
from benchmarks.tables.figures import missed, ratio, regret
from benchmarks.tables.record import SHARDS, Stage, record, stages
from benchmarks.tables.recorded import REPORTING, load

SEEDS, LONG, SHORT = 30, 1000, 200
NAS = ("nasbench201/cifar10", "nasbench201/cifar100", "nasbench201/imagenet")
"""Tuning tables whose multi-objective figures stand beside the others."""


def measure(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Record what is missing and return figures and settings; quick: two tables, three seeds, 60 evaluations,
    recorded anew, without slow arms.
    """
    if quick:
        with tempfile.TemporaryDirectory() as folder:
            return _measure(
                Path(folder), ("hpobench/credit_g", "hpolib/naval_propulsion"), (), 3, 60, 60, quick
            )
    return _measure(SHARDS, REPORTING, NAS, SEEDS, LONG, SHORT)


def plan(tables: Sequence[str], beside: Sequence[str], long: int, short: int) -> list[Stage]:
    """Return all that is to be recorded, slow arms last."""
    one = stages(tables, 1, long)
    several = [stage for goals in (2, 3) for stage in stages((*tables, *beside), goals, short)]
    return sorted([*one, *several], key=lambda stage: stage.arm in SLOW)


def _measure(
    folder: Path,
    tables: Sequence[str],
    beside: Sequence[str],
    seeds: int,
    long: int,
    short: int,
    quick: bool = False,
) -> tuple[dict[str, Any], dict[str, Any]]:
    everything = [s for s in plan(tables, beside, long, short) if not quick or s.arm not in SLOW]
    record(everything, folder, seeds)
    single = _by_table([stage for stage in everything if len(stage.metrics) == 1], folder, seeds)
    floors = {table: load(table).resolution for table in tables}
    figures: dict[str, Any] = {}
    for evaluations in sorted({short, long}):
        values = {
            table: {
                arm: np.array([regret(load(table), asked, evaluations) for asked in rows])
                for arm, rows in arms.items()
            }
            for (table, _), arms in single.items()
        }
        figures[f"regret_ratio_{evaluations}"] = _against(values, floors)
        figures[f"regret_{evaluations}"] = _means(values)
    for name, of in (("hypervolume_gap", tables), ("hypervolume_gap_nasbench201", beside)):
        several = _by_table([s for s in everything if len(s.metrics) > 1 and s.table in of], folder, seeds)
        gaps = {
            f"{table}: {', '.join(metrics)}": {
                arm: np.array([missed(load(table), asked, metrics, short) for asked in rows])
                for arm, rows in arms.items()
            }
            for (table, metrics), arms in several.items()
        }
        if gaps:
            figures[f"{name}_{short}"] = _against(gaps, dict.fromkeys(gaps, 1e-6))
            figures[f"{name}_{short}_shares"] = _means(gaps)
    return figures, {"seeds": seeds, "tables": list(tables), "arms": list(ARMS)}


def _by_table(
    found: Sequence[Stage], folder: Path, seeds: int
) -> dict[tuple[str, tuple[str, ...]], dict[str, list[np.ndarray]]]:
    """Return what was asked, by table and objectives, arm and seed."""
    rows: dict[tuple[str, tuple[str, ...]], dict[str, list[np.ndarray]]] = {}
    for stage in found:
        known = stage.load(folder)
        if known:
            arms = rows.setdefault((stage.table, stage.metrics), {})
            arms[stage.arm] = [known[seed] for seed in sorted(known) if seed < seeds]
    return rows


def _against(values: dict[str, dict[str, np.ndarray]], floors: dict[str, float]) -> dict[str, float]:
    """Hold ours against the best of the opponents of every table that have all seeds."""
    ours = {table: arms[OURS] for table, arms in values.items()}
    theirs = {
        table: np.stack([arms[name] for name in OPPONENTS if len(arms.get(name, ())) == len(ours[table])])
        for table, arms in values.items()
    }
    return ratio(ours, theirs, floors)


def _means(values: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, float]]:
    """Return the mean of every arm, by table; of an arm with fewer seeds than ours their number stands by."""
    return {
        table: {
            arm if len(found) == len(arms[OURS]) else f"{arm} ({len(found)} seeds)": float(found.mean())
            for arm, found in arms.items()
        }
        for table, arms in values.items()
    }
