"""Records one seed of one task: a search of full length, the search of every rule, and the metrics of all
cells after retraining.

The search of a rule equals the full search until the rule removes something. So it is forked from there: it
goes on from the full search's state of the epoch before, bit for bit, and the cost of the epochs up to there
counts as its own. Rivals stop at the cost of ours; the cells that they have found by then count.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.cells.rules import EQUAL_COST, HAND, OURS, equal_cost_rules
from benchmarks.cells.tasks import TASKS, Task
from benchmarks.harness import rounded
from evaluators.supernet.record import EpochRecord
from evaluators.supernet.training import SupernetTraining
from operators.stability import Histories, NoRemoval, Rule
from spaces.files import replacing

RETRAININGS = 2
"""Of every cell, with seeds that all cells of a search share."""
RANDOM = 4
"""Random cells a seed."""

Run = dict[str, Any]


def shard_file(folder: Path, task: str, seed: int) -> Path:
    return folder / f"{task}-{seed}.json"


def record(folder: Path, task: str, seed: int) -> None:
    """Record what is missing of a shard: first all searches, then one retraining after the other.

    Raises:
        ValueError: the shard that is there was recorded with other settings.
    """
    file = shard_file(folder, task, seed)
    shard = json.loads(file.read_text()) if file.exists() else None
    kind = TASKS[task]
    if shard is not None and shard["settings"] != kind.identity:
        raise ValueError(
            f"{file} was recorded with other settings than those of benchmarks/cells/tasks.py; delete it to "
            f"record it anew"
        )
    data = kind.data(seed)
    torch.manual_seed(seed)
    design, before = kind.design(data, seed)

    def training() -> SupernetTraining:
        return SupernetTraining(design, data, kind.settings, seed)

    if shard is None:
        shard = {
            "task": task,
            "seed": seed,
            "settings": kind.identity,
            "before": before,
            "runs": searches(kind, training, seed),
            "retrained": {},
        }
        trainer = training()
        for number in range(RANDOM):
            shard["runs"][f"random {number}"] = {"genotype": trainer.random_genotype(RANDOM * seed + number)}
        _write(file, shard)
    trainer = training()
    for run in shard["runs"].values():
        found = shard["retrained"].setdefault(run["genotype"], {})
        for number in range(RETRAININGS):
            if str(number) not in found:
                metrics = trainer.retrain(
                    run["genotype"], 1000 * seed + number, kind.retrain["epochs"], kind.retraining
                )
                found[str(number)] = {
                    name: metrics[name] for name in (f"test_{kind.metric}", "test_loss", "params", "macs")
                }
                _write(file, shard)


def searches(kind: Task, training: Callable[[], SupernetTraining], seed: int) -> dict[str, Run]:
    """Search in full, and by every rule."""
    full, states = training(), {}
    states[0] = full.state()
    records: list[EpochRecord] = []
    for epoch in full.run(kind.epochs, NoRemoval()):
        records.append(epoch)
        states[epoch.epoch] = full.state()
    runs = {"full": _run(full, records, detail=True)}
    for name, rule in {OURS: kind.ours, **HAND}.items():
        runs[name] = fork(rule, records, states, training, kind, seed)
    limit = cost(records, runs[OURS])
    for name, rule in equal_cost_rules(kind, records, runs[OURS], limit).items():
        runs[name] = fork(rule, records, states, training, kind, seed, limit if name in EQUAL_COST else None)
    return runs


def fork(
    rule: Rule,
    records: list[EpochRecord],
    states: Mapping[int, Mapping[str, Any]],
    training: Callable[[], SupernetTraining],
    kind: Task,
    seed: int,
    limit: float | None = None,
) -> Run:
    """Search by a rule, from where it first removes something in the full search; `limit` is CPU seconds
    after which it ends.
    """
    first = first_removal(rule, records, kind, seed)
    shared = len(records) if first is None else first - 1
    if limit is not None:
        spent = np.cumsum([r.cpu_seconds for r in records[:shared]])
        shared = min(shared, int(np.searchsorted(spent, limit)) + 1)
    search = training()
    search.restore(states[shared])
    used = list(records[:shared])
    if first is not None and shared == first - 1:
        for epoch in search.run(kind.epochs, rule):
            used.append(epoch)
            if limit is not None and sum(r.cpu_seconds for r in used) >= limit:
                break
    return _run(search, used, shared)


def first_removal(rule: Rule, records: list[EpochRecord], kind: Task, seed: int) -> int | None:
    """Return the epoch at whose end a rule first removes something of the full search; None: never."""
    histories = Histories()
    for epoch in records:
        if epoch.epoch <= kind.search["warmup"]:
            continue
        for edge, row in epoch.importances.items():
            histories.record(edge, tuple(row), list(row.values()))
        if rule.keep(epoch.epoch, len(records), histories.edges, np.random.default_rng([seed, epoch.epoch])):
            return epoch.epoch
    return None


def cost(records: list[EpochRecord], run: Run) -> float:
    """Return the CPU seconds of a run: its epochs' own, those it shares with the full search included."""
    return sum(run["cpu_seconds"])


def _run(search: SupernetTraining, records: list[EpochRecord], shared: int = 0, detail: bool = False) -> Run:
    run: Run = {
        "genotype": search.genotype,
        "best": {edge: next(iter(row)) for edge, row in search.ranked().items()},
        "epochs": len(records),
        "shared": shared,
        "cpu_seconds": [r.cpu_seconds for r in records],
        "seconds": [r.seconds for r in records],
        "macs": [r.macs for r in records],
        "memory": [r.memory for r in records],
        "removed": {
            str(r.epoch): {edge: len(names) for edge, names in r.removed.items()}
            for r in records
            if r.removed
        },
    }
    if detail:
        run["importances"] = [r.importances for r in records]
    return run


def _write(file: Path, shard: Mapping[str, Any]) -> None:
    with replacing(file) as part:
        part.write_text(json.dumps(rounded(shard), separators=(",", ":")))
