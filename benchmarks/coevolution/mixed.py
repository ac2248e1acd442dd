"""Cells of different architectures on one graph, beside each architecture alone on it, at the same MACs of
gradient steps.

``python -m benchmarks.coevolution.mixed [--seeds 3]`` records shards. The figure has no target; it
is .99 with 3 seeds. Cells that may have any architecture settle on the shallow one, which alone is best here;
since it is cheap, a third of their budget is unspent when the foreseen steps are done.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.coevolution.arms import BUDGET, TASKS
from benchmarks.coevolution.controls import record
from benchmarks.coevolution.faithful import FOLDER
from benchmarks.coevolution.ours import PLAIN, PRODUCT, Coevolved
from benchmarks.harness import spread
from search.coevolution import Ring

SHARE = 1 / 2
"""Of the budget of the other arms."""
CELLS = Ring(3)
"""Every cell is the neighbour of both others."""
PAIRS = {
    "shallow": ((64, 48, 10), (10, 48, 64)),
    "plain": PLAIN,
    "deep": ((64, 48, 32, 16, 10), (10, 16, 32, 48, 64)),
}


def arms() -> dict[str, Coevolved]:
    """The coevolution of the other figures on a ring of three, with each architecture and with
    all of them.
    """
    ours = PRODUCT["coevolution"]
    assert isinstance(ours, Coevolved)
    sets = {name: (pair,) for name, pair in PAIRS.items()} | {"all": tuple(PAIRS.values())}
    return {name: replace(ours, name=name, topology=CELLS, pairs=pairs) for name, pairs in sets.items()}


def mixed_figures(folder: Path = FOLDER) -> dict[str, Any]:
    """Return ``heterogeneous_ratio``: the hypervolume of all architectures on one graph over that of the best
    one alone, by seed.
    """
    values: dict[int, dict[str, float]] = defaultdict(dict)
    for file in sorted(folder.glob("mixed-*.json")):
        shard = json.loads(file.read_text())
        values[shard["seed"]][shard["arm"]] = shard["hypervolume"]
    whole = {seed: found for seed, found in values.items() if set(found) == {*PAIRS, "all"}}
    if not whole:
        return {"heterogeneous_ratio": None}
    ratios = spread(found["all"] / max(found[name] for name in PAIRS) for found in whole.values())
    return {
        "heterogeneous_ratio": ratios["median"],
        "heterogeneous_ratios": ratios,
        "heterogeneous_hypervolume": {
            name: spread(found[name] for found in whole.values()) for name in (*PAIRS, "all")
        },
    }


def main() -> None:
    """Record what is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coevolution.mixed")
    parser.add_argument("--seeds", type=int, default=3)
    torch.set_num_threads(1)
    for seed in range(parser.parse_args().seeds):
        for arm in arms().values():
            record(FOLDER, TASKS["digits"], arm, seed, SHARE * BUDGET, "mixed")


if __name__ == "__main__":
    main()
