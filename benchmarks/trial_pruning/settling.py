"""The rule, settled by leave-one-family-out: for every family of tuning tasks a rule is chosen on the others.

``python -m benchmarks.trial_pruning.settling [--json FILE]``: how often each rule is chosen, and the regret
of what was chosen over that of the best existing pruner on the family that was left out. The rule goes into
``arms.OURS``.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.trial_pruning.arms import ARMS, EXISTING, Arm, Weighed, column, plus_bias
from benchmarks.trial_pruning.claims import ORDERS, geometric, unit
from benchmarks.trial_pruning.curves import Pool, pools
from benchmarks.trial_pruning.stages import FOLDER
from benchmarks.trial_pruning.tasks import TASKS
from benchmarks.trial_pruning.weighing import Precision, Weighing

_VAL = column("val_loss")


def weighed(weighing: Weighing | Precision | None = None, **settings: Any) -> Arm:
    """Return the rule in one wave with another score, or another choice of the winner."""
    settings = {"score": _VAL, "choice": _VAL, "cost": "gram_seconds", "size": 81} | settings
    return Weighed(**settings, weighing=weighing or Weighing())


RULES: dict[str, Arm] = {
    "two waves": weighed(waves=2),
    "one wave": weighed(),
    "one wave, chosen over 9 epochs": weighed(window=9),
    "one wave, chosen by one epoch": weighed(window=1),
    "one wave, chosen by val + .2 gram/n": weighed(choice=plus_bias("val_loss", "val/64/gram@0.001", 0.2)),
    "one wave, the share fixed at 1/2": weighed(Weighing(share=0.5)),
    "one wave, movement by a quarter": weighed(Weighing(errors=0.25)),
    "one wave, movement and trace by a quarter": weighed(Weighing(errors=0.25, trace=0.25)),
    "one wave, movement by .4, trace by a quarter": weighed(Weighing(errors=0.4, trace=0.25)),
    "one wave, movement by a half, trace by a quarter": weighed(Weighing(trace=0.25)),
    "one wave, movement and trace by a half": weighed(Weighing(trace=0.5)),
    "one wave, half pooled": weighed(Weighing(pooling=0.5)),
    "one wave, pooled": weighed(Weighing(pooling=1.0)),
    "inverse variances": weighed(Precision()),
    "fixed weights, chosen by val": ARMS["the same, chosen by val over 5 epochs (our first)"],
    "fixed weights, chosen by val + .2 gram/n": ARMS[
        "fixed weights: halving 81, val + trace + movement, chosen by val + .2 gram/n over 5 epochs"
    ],
}
"""What there is to choose from; the first was the rule before."""

Regrets = dict[str, dict[str, float]]
"""Mean regrets by task and arm."""


def regrets(found: Mapping[str, Sequence[Pool]]) -> Regrets:
    """Return what existing pruners and all rules come to on every task."""
    arms = EXISTING | RULES
    table: Regrets = {}
    for task, some in found.items():
        units = [unit(pool, ORDERS, list(arms), arms) for pool in some]
        table[task] = {name: float(np.mean([row[name]["checkpoint"] for row in units])) for name in arms}
    return table


def family(task: str) -> str:
    """Return what is left out together: the two perceptrons on digits share their data."""
    return "digits-mlp" if task == "digits-mlp-noisy" else task


def level(row: Mapping[str, float], rule: str) -> float:
    """Return the regret of a rule over that of the median existing pruner, which is never 0."""
    return row[rule] / float(np.median([row[name] for name in EXISTING]))


def best_rule(table: Regrets) -> str:
    """Return the rule of the lowest mean level over some tasks."""
    return min(RULES, key=lambda rule: float(np.mean([level(row, rule) for row in table.values()])))


def settle(table: Regrets) -> dict[str, Any]:
    """Return the rule that all tasks choose, and what comes out where the task's family had no say."""
    chosen = {
        task: best_rule({name: row for name, row in table.items() if family(name) != family(task)})
        for task in table
    }
    left_out = {task: over_best(row, chosen[task]) for task, row in table.items()}
    levels = {rule: [level(row, rule) for row in table.values()] for rule in RULES}
    return {
        "rule": best_rule(table),
        "chosen": dict(Counter(chosen.values()).most_common()),
        "left_out_regret_ratio": geometric([ratio for ratio in left_out.values() if ratio > 0]),
        "left_out_regret_ratio_per_task": left_out,
        "level": {rule: float(np.mean(values)) for rule, values in levels.items()},
        "regret_ratio_per_task": {
            rule: {task: over_best(row, rule) for task, row in table.items()} for rule in RULES
        },
    }


def over_best(row: Mapping[str, float], rule: str) -> float:
    """Return the regret of a rule over that of the best existing pruner; 1 where neither has any."""
    best = min(row[name] for name in EXISTING)
    return row[rule] / best if best else float("inf") if row[rule] else 1.0


def main() -> None:
    """Settle on what was recorded of the tuning tasks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trial_pruning.settling")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    file = parser.parse_args().json
    where = harness.environment()
    found = {task: some for task in TASKS if TASKS[task].tuning and (some := pools(FOLDER, task))}
    settings = {"orders": ORDERS, "units": {task: len(some) for task, some in found.items()}}
    harness.report("trial_pruning settling", settle(regrets(found)), settings, where, file)


if __name__ == "__main__":
    main()
