"""Records what arms reach, one shard an arm, task and seed; what is there stays, so that an interrupted
recording goes on.

``python -m benchmarks.fronts.record [--seeds 5] [--tasks ...] [--arms ...] [--shares 1.0 0.5 0.75]``

With less than all of the budget the main arm is run, and those of ours that are named:
``--arms lineages --tasks hearts`` records what ``compute_ratio_told``, ours on the oracle network, takes
there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.fronts.arms import Arm, hypervolume
from benchmarks.fronts.roster import ARMS, MAIN, OURS
from benchmarks.fronts.tasks import TASKS, Ground
from spaces.files import replacing

FOLDER = Path(__file__).parents[1] / "results" / "fronts"
SHARES = (0.5, 0.75)
"""Shares of the budget with which our arms are run as well, for how early they reach what the best control
ends with. Below a fifth a round has one or two steps on hearts, and one more takes a run over its budget,
which is refused.
"""


@cache
def ground(task: str, seed: int) -> Ground:
    """Made once a process."""
    return Ground(TASKS[task], seed)


def shard_file(folder: Path, task: str, arm: str, seed: int, share: float) -> Path:
    """Where a shard lies."""
    name = "".join(c if c.isalnum() else "_" for c in arm.lower())
    return folder / f"{task}-{name}-{share:g}-{seed}.json"


def record(folder: Path, task: str, arm: Arm, seed: int, share: float = 1.0) -> dict[str, Any]:
    """Run an arm with this share of the task's budget and write its shard, if it is not there; return it."""
    file = shard_file(folder, task, arm.name, seed, share)
    if not file.exists():
        here, began = ground(task, seed), time.process_time()
        budget = share * here.budget
        points, spent = arm.run(here, budget)
        assert spent <= 1.01 * budget, f"{arm.name} took {spent / budget:.3f} of its budget"
        shard = {
            "task": task,
            "arm": arm.name,
            "seed": seed,
            "share": share,
            "setting": arm.setting,
            "spent": spent / here.budget,
        }
        shard |= {"hypervolume": hypervolume(points), "hypervolume_search": hypervolume(points, "search")}
        shard |= {"points": [asdict(point) for point in points], "seconds": time.process_time() - began}
        with replacing(file) as part:
            part.write_text(json.dumps(shard) + "\n")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Record what is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fronts.record")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--arms", nargs="*", help="default: all")
    parser.add_argument("--shares", nargs="*", type=float, default=[1.0, *SHARES])
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for seed in range(given.seeds):
        for share in given.shares:
            for task in given.tasks:
                for name in given.arms or ARMS:
                    if share == 1.0 or name == MAIN or (given.arms and name in OURS):
                        found = record(FOLDER, task, ARMS[name], seed, share)
                        print(
                            f"{task} {seed} {share:g} {name}: {found['hypervolume']:.3f} in "
                            f"{found['seconds']:.0f} s",
                            flush=True,
                        )


if __name__ == "__main__":
    main()
