"""Ours on the paper's data, as ``configs/gecco_improved.yaml`` says:
``python -m benchmarks.coevolution.improved`` records its seeds [O].

Floors beside it (k-means, a narrow autoencoder, a rounded one) are those of
:mod:`benchmarks.coevolution.floors`: no claim rests on it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.coevolution.faithful import FOLDER, shard_file, write
from benchmarks.harness import spread
from evaluators.assessment import assess
from search.config.assembly import assemble
from search.config.settings import Settings

CONFIG = Path("configs") / "gecco_improved.yaml"
KEPT = 0.5
"""Largest share of the parameters alive; of the members below it, the one with the lowest loss on the search
split is reported.
"""
FLOORS = ("kmeans", "narrow_rounded", "full_rounded")


def run(seed: int) -> dict[str, Any]:
    """Run the configuration in process, without its fine-tuning, and measure a member of its front on the
    test split.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.parse(
            [
                str(CONFIG),
                "--seed",
                str(seed),
                "--runs",
                folder,
                "--executor",
                "inline",
                "--finish.members",
                "0",
            ]
        )
        result = assemble(settings).run(**asdict(settings.budget))
        whole = max(member.metrics["params"] / member.metrics["kept"] for member in result.front)
        small = [member for member in result.front if member.metrics["params"] <= KEPT * whole]
        best = min(small, key=lambda member: member.metrics["l1"])
        data = result.problem.evaluator.data
        assert data is not None
        test = assess(result.build(best).eval(), data, data.batches("test", 1024))
    return {
        "test": test["l1"],
        "search": best.metrics["l1"],
        "kept": best.metrics["params"] / whole,
        "parameters": best.metrics["params"],
    }


def improved_figures(folder: Path = FOLDER) -> dict[str, Any]:
    """Return medians over seeds, ``improved_l1`` on fresh test data at ``improved_kept`` of the parameters,
    and the floors beside them.
    """
    trials = [json.loads(file.read_text()) for file in sorted(folder.glob("improved-ours-*.json"))]
    if not trials:
        return {"improved_l1": None, "improved_kept": None}
    beside = {"ours": [trial["test"] for trial in trials], "ours, kept": [trial["kept"] for trial in trials]}
    beside |= {
        name: [json.loads(file.read_text())["test"] for file in sorted(folder.glob(f"floor-{name}-*.json"))]
        for name in FLOORS
    }
    spreads = {name: spread(values) for name, values in beside.items() if values}
    return {
        "improved_l1": spreads["ours"]["median"],
        "improved_kept": spreads["ours, kept"]["median"],
        "improved_beside": spreads,
    }


def main() -> None:
    """Record what is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coevolution.improved")
    parser.add_argument("--seeds", type=int, default=5)
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for seed in range(parser.parse_args().seeds):
        file = shard_file(FOLDER, "improved", "ours", seed)
        if not file.exists():
            began, found = time.perf_counter(), run(seed)
            write(
                file,
                {"setting": "improved", "arm": "ours", "seed": seed, "seconds": time.perf_counter() - began}
                | found,
            )


if __name__ == "__main__":
    main()
