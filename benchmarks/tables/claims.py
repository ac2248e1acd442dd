"""The figures of the tables, from what was recorded."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables.arms import ARMS, OPPONENTS, OURS, SLOW
from benchmarks.tables.figures import missed, ratio, regret
from benchmarks.tables.record import NAS, SEEDS, SHARDS, Stage, plan, record
from benchmarks.tables.recorded import load


def measure(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures and settings, of the seeds that all arms have which count.

    Args:
        quick: two tables, three seeds, 60 evaluations, recorded anew without slow arms.
    """
    if not quick:
        figures, settings = claims(SHARDS, plan(), SEEDS)
        return figures | _of_others(), settings
    arms = [arm for arm in ARMS if arm not in SLOW]
    stages = plan(("hpobench/credit_g", "hpolib/naval_propulsion"), (), 60, 60, arms)
    with tempfile.TemporaryDirectory() as folder:
        record(stages, Path(folder), 3)
        return claims(Path(folder), stages, 3)


def _of_others() -> dict[str, Any]:
    """Return the figures of the commands beside this one, of their latest results."""
    found: dict[str, Any] = {}
    for name, figures in (
        ("workers", ["workers_256"]),
        ("curves", ["pruner_regret_ratio", "pruner_regret_ratio_one"]),
        ("overhead", ["overhead_ms"]),
    ):
        file = SHARDS.parent / f"tables_{name}.json"
        if file.exists():
            known = json.loads(file.read_text())["figures"]
            found |= {figure: known[figure] for figure in figures}
    return found


def claims(folder: Path, stages: Sequence[Stage], seeds: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures and settings of what is recorded."""
    figures: dict[str, Any] = {}
    for evaluations in sorted({stage.evaluations for stage in stages}):
        here = [stage for stage in stages if stage.evaluations == evaluations]
        regrets = _values([stage for stage in here if len(stage.metrics) == 1], folder, seeds)
        figures |= _figure(f"regret_{evaluations}", f"regret_ratio_{evaluations}", regrets)
        for name, beside in (("hypervolume_gap", False), ("hypervolume_gap_nasbench201", True)):
            of = [stage for stage in here if len(stage.metrics) > 1 and (stage.table in NAS) == beside]
            figures |= _figure(
                f"{name}_shares_{evaluations}", f"{name}_{evaluations}", _values(of, folder, seeds)
            )
    recorded = {stage.arm: None for stage in stages if stage.file(folder).exists()}
    tables = dict.fromkeys(stage.table for stage in stages)
    return figures, {"seeds": seeds, "arms": list(recorded), "tables": list(tables)}


Values = dict[Stage, np.ndarray]


def _values(stages: Sequence[Stage], folder: Path, seeds: int) -> Values:
    """Return regrets or missed shares ``(seeds,)`` of every stage that has been recorded."""
    found = {}
    for stage in stages:
        asked, table = stage.load(folder), load(stage.table)
        known = [asked[seed] for seed in range(seeds) if seed in asked]
        if len(stage.metrics) == 1:
            found[stage] = np.array([regret(table, one) for one in known])
        else:
            found[stage] = np.array([missed(table, one, stage.metrics) for one in known])
    return {stage: values for stage, values in found.items() if len(values)}


def _figure(means: str, against: str, values: Values) -> dict[str, Any]:
    """Return the means of all arms by table, and ours over the best opponent of every table."""
    rows: dict[str, dict[str, np.ndarray]] = {}
    floors: dict[str, float] = {}
    for stage, found in values.items():
        name = ": ".join([stage.table, " and ".join(stage.metrics)])
        rows.setdefault(name, {})[stage.arm] = found
        floors[name] = load(stage.table).resolution if len(stage.metrics) == 1 else _LEAST
    rows = {name: arms for name, arms in rows.items() if OURS in arms and arms.keys() & OPPONENTS.keys()}
    if not rows:
        return {}
    known = [len(found) for arms in rows.values() for arm, found in arms.items() if arm not in SLOW]
    seeds = min(known)
    ours = {name: arms[OURS][:seeds] for name, arms in rows.items()}
    theirs = {
        name: np.stack([arms[arm][:seeds] for arm in OPPONENTS if len(arms.get(arm, ())) >= seeds])
        for name, arms in rows.items()
    }
    found = ratio(ours, theirs, floors)
    return {
        against: found.pop("ratio"),
        f"{against}_interval": [found.pop("lower"), found.pop("upper")],
        f"{against}_worst": found.pop("worst"),
        f"{against}_seeds": seeds,
        f"{against}_tables": found,
        means: {
            name: {arm: _mean(values[:seeds], seeds) for arm, values in arms.items()}
            for name, arms in rows.items()
        },
    }


def _mean(found: np.ndarray, seeds: int) -> float | dict[str, float]:
    """Return the mean; of an arm with fewer seeds than the others their number stands by it."""
    mean = float(found.mean())
    return mean if len(found) == seeds else {"mean": mean, "seeds": len(found)}


_LEAST = 1e-6  # a share of the hypervolume that counts as nothing
