"""Runs an arm to the end of its time and writes what it reached: one shard an arm and seed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import harness
from benchmarks.real.arms import Arm, GlobalMagnitude, Layers, RandomMask, Scratch, Uniform, Whole
from benchmarks.real.bm25 import bm25_ranks
from benchmarks.real.distil import Recipe, distil
from benchmarks.real.fisher import FisherMasks
from benchmarks.real.ground import CORES, Clock, Ground
from benchmarks.real.levels import Levels
from benchmarks.real.ours import Ours
from benchmarks.real.retrieval import best, encoded, ranks, reciprocal
from benchmarks.real.torch_pruning import TorchPruningTaylor
from spaces.errors import InputError
from spaces.files import replacing

TEACHER, BM25 = "teacher", "BM25"
ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        *(Ours(), Uniform(), Layers(), GlobalMagnitude(), TorchPruningTaylor(), FisherMasks(), Levels()),
        *(RandomMask(), Scratch(), Whole()),
    )
}
NAMES = (TEACHER, BM25, *ARMS)
"""What may be recorded; the first two and the whole model are no arms."""
_ROUNDS = 200


def shard_file(folder: Path, name: str, seed: int) -> Path:
    """Where a shard lies."""
    return folder / f"{name.lower().replace(' ', '_')}-{seed}.json"


def record(
    folder: Path, work: Path, name: str, seed: int, ground: Ground, minutes: float, rounds: int = _ROUNDS
) -> dict[str, Any]:
    """Return the shard of an arm; run it, or go on with it, where there is none.

    Args:
        folder: of the shards.
        work: where what a killed run needs to go on is kept.
        minutes: the ceiling, of two cores.
        rounds: in which latency is measured.

    Raises:
        InputError: there is a shard of other pairs or another ceiling.
    """
    file = shard_file(folder, name, seed)
    if not file.exists():
        left = work / f"{file.stem}-{minutes:g}-{ground.digest}"
        found = _run(left, name, seed, ground, minutes, rounds)
        shard = {"arm": name, "seed": seed, "minutes": minutes, "pairs": ground.digest} | found
        with replacing(file) as part:
            part.write_text(json.dumps(harness.rounded(shard)) + "\n")
        shutil.rmtree(left, ignore_errors=True)
    shard = json.loads(file.read_text())
    for key, expected in (("pairs", ground.digest), ("minutes", minutes)):
        if shard[key] != expected:
            raise InputError(f"{file}: {key} {shard[key]}; expected {expected}, or another --results folder")
    return shard


def _run(work: Path, name: str, seed: int, ground: Ground, minutes: float, rounds: int) -> dict[str, Any]:
    if name == BM25:
        test = ground.pairs["test"]
        found = bm25_ranks([pair.first for pair in test], [pair.rest for pair in test])
        return {"mrr": reciprocal(found).mean(), "ranks": found.tolist()}
    if name == TEACHER:
        return _tested(ground.teacher, ground) | {"params": _params(ground.teacher), "macs": ground.whole}
    torch.manual_seed(seed)
    assert ground.space.length and ground.whole  # what all arms share is made before the clock runs
    clock = Clock(work / "clock.json", 60 * CORES * minutes)
    model = ARMS[name].prune(ground, clock, seed, work)
    pruned = clock.note("pruned")
    seen = distil(model, ground.data, clock, seed, work / "state.pt")
    macs = ground.macs_of(model)
    return {
        "seconds_pruning": pruned,
        "seconds": clock.spent,
        "seconds_planning": ground.planning,
        "texts": seen,
        "threads": torch.get_num_threads(),
        "params": _params(model),
        "macs": macs,
        "share": macs / ground.whole,
        **_tested(model, ground),
        **ground.speedup(model, rounds),
    }


def _params(model: nn.Module) -> int:
    """Return how many parameters there are that are no embeddings."""
    tables = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in tables)


def _tested(model: nn.Module, ground: Ground) -> dict[str, Any]:
    """Return figures on the test split, and of every first line the place of its rest."""
    texts = ground.data.texts["test"]
    halves = encoded(model, texts).split(texts.pairs)
    found = ranks(*halves)
    return {
        "mrr": reciprocal(found).mean(),
        "agreement": float((best(*halves) == best(*texts.vectors.split(texts.pairs))).mean()),
        "ranks": found.tolist(),
    }


def shards(folder: Path, names: Sequence[str] = NAMES) -> dict[str, dict[int, dict[str, Any]]]:
    """Return what was recorded, by arm and seed."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for file in sorted(folder.glob("*.json")):
        shard = json.loads(file.read_text())
        if shard["arm"] in names:
            found.setdefault(shard["arm"], {})[shard["seed"]] = shard
    return found


def settings() -> dict[str, Any]:
    """Return what all arms share."""
    return {"recipe": vars(Recipe()), "cores": CORES}
