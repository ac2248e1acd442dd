"""Recording in stages and shards: what is there is not recorded again, so that it may be interrupted at any
time.

``python -m benchmarks.trial_pruning.stages [--workers 2]``
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch

from benchmarks.trial_pruning.record import SEEDS, Regime, record, shard_file
from benchmarks.trial_pruning.tasks import TASKS

FOLDER = Path(__file__).resolve().parent.parent / "results" / "trial_pruning"
_FEW, _MANY = (0, 1), (2, 3, 4, 5)

Shard = tuple[str, int, int, Regime]


def shards() -> Iterator[Shard]:
    """Yield all shards in order: a hundred configurations of every task and split, 200 more of what is cheap
    and reported, a hundred without validation split where results are reported, then 200 more where methods
    are tuned; before all of them, split by split, a hundred of every lean task.
    """
    full = [name for name in TASKS if not TASKS[name].lean]
    cheap, costly = (
        [name for name in full if TASKS[name].costly is is_costly] for is_costly in (False, True)
    )
    tuning = [name for name in full if TASKS[name].tuning]
    reported = [name for name in full if not TASKS[name].tuning]
    for seed in SEEDS:
        for name in TASKS:
            if TASKS[name].lean:
                yield from ((name, seed, shard, "split") for shard in _FEW)
    stages: list[tuple[list[str], tuple[int, ...], Regime]] = [
        (cheap + costly, _FEW, "split"),
        ([name for name in cheap if name in reported], _MANY, "split"),
        (reported, _FEW, "all"),
        (tuning, _MANY, "split"),
    ]
    for tasks, numbers, regime in stages:
        for task in tasks:
            for shard in numbers:
                for seed in SEEDS:
                    yield task, seed, shard, regime


def _work(shard: Shard) -> float:
    torch.set_num_threads(1)
    began = time.perf_counter()
    record(FOLDER, *shard)
    return time.perf_counter() - began


def main() -> None:
    """Record what is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trial_pruning.stages")
    parser.add_argument("--workers", type=int, default=2)
    workers = parser.parse_args().workers
    FOLDER.mkdir(parents=True, exist_ok=True)
    missing = [shard for shard in shards() if not shard_file(FOLDER, *shard).exists()]
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(_work, shard): shard for shard in missing}
        for done, future in enumerate(as_completed(running), 1):
            print(f"{done}/{len(missing)} {running[future]}: {future.result():.0f} s", flush=True)


if __name__ == "__main__":
    main()
