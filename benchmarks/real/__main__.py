"""all-MiniLM-L6-v2 at half of its multiply-accumulates: which way keeps most of what it finds?

    make real                                            everything: 45 minutes of two cores an arm and seed
    python -m benchmarks.real --quick                    a small part, a minute or two, written nowhere
    python -m benchmarks.real --arms ours uniform        these alone; `--seeds 0 1 2`
    python -m benchmarks.real --minutes 5 --results build/real/short    a lower ceiling, elsewhere

A rest of a docstring is looked for by its first line, among those of the test split. An arm that was killed
goes on where it was when the same line is called again. A minute of the ceiling is two of CPU time, whatever
the number of `--threads`. Figures are those of all shards that are there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import harness
from benchmarks.real.figures import figures, table
from benchmarks.real.ground import CACHE, Ground
from benchmarks.real.record import BM25, NAMES, TEACHER, record, settings, shards
from spaces.errors import InputError

RESULTS = Path(__file__).parents[1] / "results" / "real"
MINUTES, QUICK_MINUTES = 45.0, 0.05


def run(
    ground: Ground,
    names: Sequence[str],
    seeds: Sequence[int],
    minutes: float,
    results: Path,
    work: Path,
    rounds: int,
) -> None:
    """Record what is missing; teacher and BM25 are the same for all seeds."""
    once = [(name, 0) for name in (TEACHER, BM25)]
    every = [(name, seed) for seed in seeds for name in names if name not in (TEACHER, BM25)]
    for name, seed in once + every:
        shard = record(results, work, name, seed, ground, minutes, rounds)
        print(f"{name} {seed}: MRR@10 {shard['mrr']:.4f}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Record, print, and write where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real")
    parser.add_argument("--quick", action="store_true", help="a small part, a minute or two")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument(
        "--arms", nargs="*", choices=NAMES, default=[*NAMES], metavar="ARM", help=", ".join(NAMES)
    )
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--minutes", type=float, help=f"of two cores an arm; default: {MINUTES:g}")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the shards")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    minutes = given.minutes or (QUICK_MINUTES if given.quick else MINUTES)
    where = harness.environment()
    try:
        ground = Ground.make(given.quick)
        with tempfile.TemporaryDirectory() as folder:
            results = Path(folder) / "results" if given.quick else given.results
            work = Path(folder) if given.quick else CACHE / "runs" / results.resolve().name
            run(ground, given.arms, given.seeds, minutes, results, work, 20 if given.quick else 200)
            told = figures(shards(results))
    except InputError as error:
        sys.exit(str(error))
    print(table(told), file=sys.stderr)
    counts = {split: len(part) for split, part in ground.pairs.items()}
    facts = {"pairs": ground.digest, "counts": counts, "minutes": minutes, "whole_macs": ground.whole}
    harness.report("real", told, {"quick": given.quick} | facts | settings(), where, given.json)


if __name__ == "__main__":
    main()
