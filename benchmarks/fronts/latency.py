"""Latency of exported members of a front over the one that the search's constraint was held against.

``python -m benchmarks.fronts.latency [--seeds 1] [--tasks ...]`` records a shard a task and seed; what is
there stays. The machine should have nothing else to do.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.fronts.record import FOLDER, ground
from benchmarks.fronts.tasks import TASKS
from evaluators import Cost, Latency, Quality
from search import Finish, Search
from spaces.files import replacing

LATENCIES = FOLDER.with_name("fronts_latency")
CONSTRAINT = "latency_ms <= 60%"
EVALUATIONS, MEMBERS, BATCH, SECONDS = 48, 6, 64, 2.5


def record(folder: Path, task: str, seed: int) -> dict[str, Any]:
    """Search with a limit on the latency of ONNX Runtime and write what the members had then and have as they
    were exported.
    """
    file = folder / f"{task}-{seed}.json"
    if not file.exists():
        here = ground(task, seed)
        with tempfile.TemporaryDirectory() as name:
            result = Search(
                here.space.model,
                here.data,
                space=here.space,
                evaluators=[Cost(), Quality(), Latency(BATCH, runtime="onnx", seconds=SECONDS)],
                objectives=["loss", "latency_ms"],
                constraints=[CONSTRAINT],
                finish=Finish(members=MEMBERS, epochs=1, latency_batch=BATCH, latency_seconds=SECONDS),
                directory=Path(name) / "run",
                seed=seed,
                lag=8,
                chunk=4,
                study=False,
            ).run(evaluations=EVALUATIONS)
        searched = {member.candidate.id: member.metrics["latency_ms"] for member in result.front}
        pairs = [
            [searched[final.id], final.realised["onnx_latency_ms"]]
            for final in result.finals
            if final.id in searched
        ]
        if not pairs:
            raise RuntimeError(
                f"{task} {seed}: nothing kept {CONSTRAINT}, so no latency can be compared; is the machine "
                f"busy?"
            )
        base = result.problem.base["latency_ms"]
        with replacing(file) as part:
            part.write_text(
                json.dumps({"task": task, "seed": seed, "base_ms": base, "searched_and_exported_ms": pairs})
                + "\n"
            )
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def latency_ratio(folder: Path = LATENCIES) -> dict[str, float] | None:
    """Return exported over searched latency: the median, and the largest deviation from 1, over
    all members.
    """
    shards = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    ratios = np.array(
        [exported / searched for shard in shards for searched, exported in shard["searched_and_exported_ms"]]
    )
    if not len(ratios):
        return None
    return {
        "median": float(np.median(ratios)),
        "largest_deviation": float(np.abs(ratios - 1).max()),
        "members": len(ratios),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Record what is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fronts.latency")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for seed, task in itertools.product(range(given.seeds), given.tasks):
        print(task, seed, record(LATENCIES, task, seed)["searched_and_exported_ms"], flush=True)
    print(latency_ratio())


if __name__ == "__main__":
    main()
