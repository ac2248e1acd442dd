"""The claim: at equal epochs, which pruner ends with the better trial.
``python -m benchmarks.trial_pruning [--quick] [--json FILE]``

It replays the table that ``python -m benchmarks.trial_pruning.stages`` records (committed, so that this takes
minutes). Every arm meets the configurations of a pool in the same random orders and chooses one trial when
its epochs are spent; its regret is the test loss of that trial less that of the best in the pool. Units are
pools on data splits; orders within a unit are averaged first, and the interval is a bootstrap over units.
Nothing is claimed on the tasks on which methods were tuned; their regrets stand beside the others.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import warnings
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import optuna
from scipy.stats import kendalltau

from benchmarks import harness
from benchmarks.trial_pruning.arms import ARMS, EXISTING, OURS, Arm, Halving, Replay, Spent, plus_bias
from benchmarks.trial_pruning.curves import Pool, all_pools
from benchmarks.trial_pruning.stages import FOLDER
from benchmarks.trial_pruning.tasks import EPOCHS, TASKS

BUDGET = 9 * EPOCHS
"""Epochs of an arm: as many as nine trials take without pruning, a tenth of what the pool holds."""
GRID = tuple(range(EPOCHS, BUDGET + 1, 3))
RESAMPLES = 2000
ORDERS = 10
"""Orders in which the configurations of a pool come."""
GAP_EPOCHS = (3, 9, 27)
_GAPS = ("gram@0.01", "gram@0.001", "gram@0.0001", "block", "diagonal", "trace", "trace_c")

QUICK = ("no pruning", "median, val", "synchronous halving 27, val", "synchronous halving 81, val", OURS)
"""Arms of a quick measurement."""

Row = dict[str, np.ndarray]
"""What one arm came to in one unit: regrets, averaged over orders."""
Table = dict[str, list[dict[str, Row]]]
"""Rows by task, unit and arm."""


def unit(pool: Pool, orders: int, arms: Sequence[str], known: Mapping[str, Arm] = ARMS) -> dict[str, Row]:
    """Run arms on one pool in some orders; return their mean regrets."""
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    best, best_end, truth = pool.at_checkpoint.min(), pool.at_end.min(), int(pool.at_checkpoint.argmin())
    found: dict[str, Row] = {}
    for name in arms:
        rows = []
        for number in range(orders):
            order = np.random.default_rng([pool.seed, number]).permutation(len(pool.table))
            replay = Replay(pool, order, BUDGET, known[name].choice, known[name].window)
            with contextlib.suppress(Spent):
                known[name].run(replay)
            complete = np.flatnonzero(replay.reached == EPOCHS)
            end = pool["val_loss"][complete, -1] if len(complete) else np.zeros(0)
            rows.append(
                {
                    "checkpoint": pool.checkpoint(replay.chosen(), replay.reached[replay.chosen()]) - best,
                    "end": pool.at_end[complete[end.argmin()]] - best_end if len(end) else np.nan,
                    "survived": float(replay.reached[truth] == EPOCHS),
                    "seconds": replay.seconds,
                    "epochs": float(replay.spent),
                    "anytime": np.array([pool.at_checkpoint[replay.chosen(at)] - best for at in GRID]),
                }
            )
        found[name] = {key: np.mean([row[key] for row in rows], axis=0) for key in rows[0]}
    return found


def without_validation(alone: Pool, split: Pool, orders: int) -> float:
    """Return the test loss of the winner trained on all data and chosen by TIC alone, over that of the one
    chosen on the split.
    """
    predicted = plus_bias("train_loss", "train/64/gram@0.01")(alone)
    ratios = []
    for number in range(orders):
        order = np.random.default_rng([split.seed, number]).permutation(len(split.table))
        ours, theirs = Replay(alone, order, BUDGET), Replay(split, order, BUDGET)
        ours._choice = np.minimum.accumulate(predicted, 1)  # there is no validation loss to choose by
        for arm, replay in (
            (Halving(lambda pool: predicted, size=81), ours),
            (ARMS["synchronous halving 81, val"], theirs),
        ):
            with contextlib.suppress(Spent):
                arm.run(replay)
        config = ours.chosen()
        loss = alone["test_loss"][config, predicted[config, : ours.reached[config]].argmin()]
        ratios.append(loss / split.checkpoint(theirs.chosen(), theirs.reached[theirs.chosen()]))
    return float(np.mean(ratios))


def gaps(pool: Pool) -> dict[str, list[float]]:
    """Return Kendall's tau of every estimate and control with the true gap, test less training loss, at some
    epochs.
    """
    columns = {f"{side}/{name}": pool[f"{side}/64/{name}"] for side in ("val", "train") for name in _GAPS}
    columns |= {
        "val - train": pool["val_loss"] - pool["train_loss"],
        "log parameters": pool.everywhere(np.log(pool.sizes)),
    }
    columns |= {"movement": pool["movement"], "val/gram, all classes": pool["val/32/gram_all"]}
    taus: dict[str, list[float]] = {name: [] for name in columns}
    for epoch in GAP_EPOCHS:
        gap = pool["test_loss"][:, epoch - 1] - pool["train_loss"][:, epoch - 1]
        for name, values in columns.items():
            fine = np.isfinite(gap) & np.isfinite(values[:, epoch - 1])
            taus[name].append(
                float(kendalltau(values[fine, epoch - 1], gap[fine])[0]) if fine.sum() > 9 else float("nan")
            )
    return taus


def ratios(table: Table, existing: Sequence[str], key: str = "checkpoint") -> dict[str, float]:
    """Return, per task, the regret of ours over that of the existing pruner with the lowest one."""
    found = {}
    for task, units in table.items():
        means = {name: np.nanmean([u[name][key] for u in units]) for name in (*existing, OURS)}
        best = min(means[name] for name in existing)
        found[task] = float(means[OURS] / best) if best else (np.inf if means[OURS] else 1.0)
    return found


def geometric(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def epochs_to_match(units: Sequence[dict[str, Row]], existing: Sequence[str]) -> float:
    """Return the share of the budget after which ours is, and stays, as good as the best existing pruner is
    in the end.
    """
    target = min(np.mean([u[name]["checkpoint"] for u in units]) for name in existing)
    curve = np.mean([u[OURS]["anytime"] for u in units], axis=0)
    worse = np.flatnonzero(curve > target + 1e-12)
    if len(worse) == 0:
        return GRID[0] / BUDGET
    return GRID[worse[-1] + 1] / BUDGET if worse[-1] + 1 < len(GRID) else float("inf")


def measure(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures and settings."""
    orders, resamples, arms = (3, 200, list(QUICK)) if quick else (ORDERS, RESAMPLES, list(ARMS))
    existing = [name for name in arms if name in EXISTING]
    found = {task: some[:1] if quick else some for task, some in all_pools(FOLDER).items()}
    table = replayed(found, orders, arms)
    reporting = {task: units for task, units in table.items() if not TASKS[task].tuning}
    tuning = {task: units for task, units in table.items() if TASKS[task].tuning}
    alone = no_validation(found, reporting, orders)
    figures = {
        **claims(reporting, existing, resamples),
        "no_validation_ratio": geometric(list(alone.values())) if alone else None,
        "no_validation_ratio_per_task": alone,
        "tuning_tasks_regret_ratio": ratios(tuning, existing),
        "arms": _by_arm(table, arms),
        **{f"gap_tau_{name}": by_task for name, by_task in _taus(found).items()},
    }
    return figures, {
        "budget_epochs": BUDGET,
        "orders": orders,
        "units": {task: len(units) for task, units in table.items()},
        "configurations_per_pool": {task: len(some[0].table) for task, some in found.items()},
        "tuning_tasks": list(tuning),
    }


def claims(reporting: Table, existing: Sequence[str], resamples: int = RESAMPLES) -> dict[str, Any]:
    """Return what is claimed of ours beside the existing pruners, of reporting tasks."""
    each = ratios(reporting, existing)
    matched = {task: epochs_to_match(units, existing) for task, units in reporting.items()}
    return {
        "regret_ratio": geometric(list(each.values())),
        "regret_ratio_upper": _finite(upper_limit(reporting, existing, resamples)),
        "epochs_ratio": _finite(geometric(list(matched.values()))),
        "worst_task_regret_ratio": max(each.values()),
        "regret_ratio_per_task": each,
        "regret_ratio_at_last_epoch_per_task": ratios(reporting, existing, "end"),
        "epochs_ratio_per_task": {task: _finite(value) for task, value in matched.items()},
    }


def _by_arm(table: Table, arms: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Summarise the units of every arm and task."""
    return {
        name: {task: _summary([unit[name] for unit in units]) for task, units in table.items()}
        for name in arms
    }


def replayed(pools: Mapping[str, Sequence[Pool]], orders: int, arms: Sequence[str]) -> Table:
    """Run arms on all pools, two at a time."""
    jobs = [(task, pool) for task, some in pools.items() for pool in some]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as workers:
        outcomes = workers.map(unit, [pool for _, pool in jobs], [orders] * len(jobs), [arms] * len(jobs))
        table: Table = {}
        for (task, _), outcome in zip(jobs, outcomes, strict=True):
            table.setdefault(task, []).append(outcome)
    return table


def upper_limit(table: Table, existing: Sequence[str], resamples: int) -> float:
    """Return the upper 90 % limit of the ratio of regrets, by bootstrap over the units of every task."""
    rng, found = np.random.default_rng(0), []
    for _ in range(resamples):
        drawn = {
            task: [units[i] for i in rng.integers(0, len(units), len(units))] for task, units in table.items()
        }
        found.append(geometric(list(ratios(drawn, existing).values())))
    return float(np.quantile(found, 0.9, method="higher"))


def no_validation(
    pools: Mapping[str, Sequence[Pool]], reporting: Collection[str], orders: int
) -> dict[str, float]:
    """Return :func:`without_validation` by task, its mean over the pools that were recorded both ways."""
    found = {}
    for task, some in all_pools(FOLDER, "all").items():
        split = {(pool.seed, pool.number): pool for pool in pools[task]}
        values = [
            without_validation(alone, split[alone.seed, alone.number], orders)
            for alone in some
            if task in reporting and (alone.seed, alone.number) in split
        ]
        if values:
            found[task] = float(np.mean(values))
    return found


def _finite(value: float) -> float | None:
    """Return None where there is no such number: never as good within the budget, a ratio to no regret at
    all.
    """
    return value if np.isfinite(value) else None


def _summary(rows: Sequence[Row]) -> dict[str, Any]:
    regrets = harness.spread([float(row["checkpoint"]) for row in rows])
    means = {
        key: float(np.nanmean([row[key] for row in rows])) for key in ("end", "survived", "seconds", "epochs")
    }
    return {"regret": float(np.mean([row["checkpoint"] for row in rows])), "regret_spread": regrets} | means


def _taus(found: Mapping[str, Sequence[Pool]]) -> dict[str, dict[str, list[float]]]:
    """Return taus at the gap epochs by estimate, then task, averaged over pools."""
    by_task = {task: [gaps(pool) for pool in some] for task, some in found.items()}
    names = next(iter(by_task.values()))[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean of nothing, where an estimate does not exist
        return {
            name: {task: list(np.nanmean([t[name] for t in some], axis=0)) for task, some in by_task.items()}
            for name in names
        }
