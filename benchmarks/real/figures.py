"""What the shards say: how much of the teacher is kept, and whether ours keeps more than the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.real.arms import Whole
from benchmarks.real.ours import Ours
from benchmarks.real.record import BM25, TEACHER
from benchmarks.real.retrieval import reciprocal

Shards = Mapping[str, Mapping[int, Mapping[str, Any]]]
_BLOCK, _BLOCKS = 500, 20
"""Resamplings at once, and how often."""


def figures(found: Shards) -> dict[str, Any]:
    """Return the figures of shards by arm and seed: of every arm, and of ours over each of the others."""
    teacher = found[TEACHER][0]
    arms = {name: _row(by_seed, teacher) for name, by_seed in found.items()}
    told: dict[str, Any] = {"teacher_mrr": teacher["mrr"], "arms": arms}
    if BM25 in found:
        told["bm25_mrr"] = found[BM25][0]["mrr"]
    if Ours.name not in found:
        return told
    told |= {"minilm_kept": arms[Ours.name]["kept"], "minilm_speedup": arms[Ours.name]["speedup"]}
    others = [name for name in found if name not in (TEACHER, BM25, Whole.name, Ours.name)]
    told["over"] = {name: bootstrapped(_queries(found[Ours.name]), _queries(found[name])) for name in others}
    if others:
        least = min(told["over"].values(), key=lambda one: one["lower"])
        told |= {"minilm_over_others": least["difference"], "minilm_over_others_lower": least["lower"]}
    return told


def bootstrapped(ours: np.ndarray, others: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Return the mean difference of reciprocal ranks of the same queries ``(queries,)``, and the bounds that
    95 of 100 resamplings of the queries are above or below.
    """
    rng, differences = np.random.default_rng(seed), ours - others
    count = len(differences)
    means = [differences[rng.integers(count, size=(_BLOCK, count))].mean(1) for _ in range(_BLOCKS)]
    low, high = np.quantile(np.concatenate(means), [0.05, 0.95])
    return {"difference": float(differences.mean()), "lower": float(low), "upper": float(high)}


def _queries(by_seed: Mapping[int, Mapping[str, Any]]) -> np.ndarray:
    """Return the reciprocal rank of every query, averaged over the seeds."""
    return np.mean([reciprocal(shard["ranks"]) for shard in by_seed.values()], axis=0)


def _row(by_seed: Mapping[int, Mapping[str, Any]], teacher: Mapping[str, Any]) -> dict[str, Any]:
    names = ("agreement", "share", "params", "speedup", "latency_ms", "texts", "seconds_pruning", "seconds")
    shards = [*by_seed.values()]
    row = {name: float(np.mean([one[name] for one in shards])) for name in names if name in shards[0]}
    scores = [one["mrr"] for one in shards]
    return {"mrr": float(np.mean(scores)), "kept": float(np.mean(scores) / teacher["mrr"]), **row} | {
        "seeds": sorted(by_seed),
        "mrr_by_seed": scores,
    }


def table(told: Mapping[str, Any]) -> str:
    """Return the arms as a table, the best first."""
    lines = [
        "| arm | seeds | MRR@10 | kept | agreement | MACs | times as fast | ours over it, lower bound |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in sorted(told["arms"].items(), key=lambda item: -item[1]["mrr"]):
        over = told.get("over", {}).get(name)
        cells = [name, str(len(row["seeds"])), f"{row['mrr']:.4f}", f"{row['kept']:.3f}"]
        cells += [f"{row[key]:.2f}" if key in row else "" for key in ("agreement", "share", "speedup")]
        cells.append("" if over is None else f"{over['difference']:+.4f}, {over['lower']:+.4f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
