"""Recording, seed by seed of both tasks; what is there is not recorded again, so that it may be interrupted
at any time.

``python -m benchmarks.cells.stages [--workers 1] [--seeds 10 11 ...]``: about a quarter of a CPU hour a seed
and task. Settings were tuned on seeds from 100 on, and changed after a look at seeds 0 and 1; none of these
is in a table.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch

from benchmarks.cells.claims import quality, shards, total
from benchmarks.cells.record import record
from benchmarks.cells.rules import OURS
from benchmarks.cells.tasks import FOLDER, TASKS

SEEDS = range(10, 20)


def _work(shard: tuple[Path, str, int]) -> float:
    torch.set_num_threads(1)
    began = time.perf_counter()
    record(*shard)
    return time.perf_counter() - began


def _summary(folder: Path, task: str, seed: int) -> str:
    """Return the cost ratio and the qualities of a shard in one line."""
    (shard,) = shards(folder, task, [seed])
    values = ", ".join(f"{name} {quality(shard, name):.3f}" for name in shard["runs"])
    return f"cost ratio {total(shard, 'full') / total(shard, OURS):.2f}; {TASKS[task].metric}: {values}"


def main() -> None:
    """Record what is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cells.stages")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="another one for seeds that settings are tuned on"
    )
    arguments = parser.parse_args()
    shards = [(arguments.folder, task, seed) for seed in arguments.seeds for task in arguments.tasks]
    with ProcessPoolExecutor(arguments.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(_work, shard): shard for shard in shards}
        for done, future in enumerate(as_completed(running), 1):
            _, task, seed = running[future]
            print(
                f"{done}/{len(shards)} {task} {seed}: {future.result():.0f} s, "
                f"{_summary(arguments.folder, task, seed)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
