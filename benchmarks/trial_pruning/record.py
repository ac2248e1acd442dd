"""Learning curves as a table: every configuration of a shard is trained to the end, and everything a pruner
may look at is written down.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.trial_pruning.tasks import EPOCHS, TASKS, Splits
from evaluators.tic import RegimeGauge
from evaluators.tic.criterion import TIC
from evaluators.tic.estimators import BlockWise, Diagonal, Gram, Trace
from evaluators.tic.gradients import gradients
from evaluators.tic.likelihood import as_likelihood
from spaces.calling import mode

SHARD = 50
"""Configurations a shard."""
SEEDS = (0, 1, 2)
"""Data splits."""
Regime = Literal["split", "all"]
"""Trained on the training split, or on training and validation samples together."""
DAMPINGS = (1e-2, 1e-3, 1e-4)
_LOSSES = 3  # columns
_SAMPLES = (64, 32)
_MEMORY = 256 * 2**20

_ESTIMATES = tuple(
    f"{side}/{m}/{name}"
    for side in ("val", "train")
    for m in _SAMPLES
    for name in (*(f"gram@{d:g}" for d in DAMPINGS), "block", "diagonal", "trace", "trace_c")
)
COLUMNS = (
    "train_loss",
    "val_loss",
    "test_loss",
    "seconds",
    "gram_seconds",
    "trace_seconds",
    "movement",
    "val/64/error",
    "train/64/error",
    "val/32/gram_all",
    *_ESTIMATES,
)
"""What a row holds, NaN where nothing was estimated or the training had diverged.

Losses are means in eval mode; biases are without the factor 1/n; @ gives lambda / Tr F, 1e-3 where none is
given.
"""


def configs(task: str, shard: int) -> list[dict[str, Any]]:
    """Return the configurations of a shard, the same for every data split.

    They are drawn with the task's place in ``TASKS``, so that new tasks go to the end of it.
    """
    rng = np.random.default_rng([list(TASKS).index(task), shard])
    return [TASKS[task].config(rng) | {"seed": int(rng.integers(2**31))} for _ in range(SHARD)]


def shard_file(folder: Path, task: str, seed: int, shard: int, regime: Regime) -> Path:
    return folder / f"{task}-{seed}-{shard}-{regime}.npz"


def record(folder: Path, task: str, seed: int, shard: int, regime: Regime) -> None:
    """Train the configurations of a shard and write its file; one that is there already is left alone."""
    target = shard_file(folder, task, seed, shard, regime)
    if target.exists():
        return
    splits = TASKS[task].splits(seed)
    splits = splits.joined() if regime == "all" else splits
    drawn = configs(task, shard)
    table = np.full((len(drawn), EPOCHS, len(COLUMNS)), np.nan, dtype=np.float32)
    sizes = np.zeros(len(drawn), dtype=np.int64)
    for i, config in enumerate(drawn):
        torch.manual_seed(config["seed"])
        model = TASKS[task].model(config)
        sizes[i] = sum(p.numel() for p in model.parameters())
        for epoch, row in enumerate(_curve(task, model, splits, config, regime)):
            table[i, epoch] = [row.get(column, np.nan) for column in COLUMNS]
    write_shard(target, table, sizes, len(splits.train[0]), drawn)


def write_shard(
    file: Path, table: np.ndarray, sizes: np.ndarray, n: int, drawn: list[dict[str, Any]]
) -> None:
    """Write a shard so that it packs well: losses to four digits, estimates to two and a half, equal bytes of
    all numbers side by side.
    """
    short = np.concatenate([_rounded(table[..., :_LOSSES], 13), _rounded(table[..., _LOSSES:], 7)], 2)
    planes = np.ascontiguousarray(short.transpose(2, 0, 1))[..., None].view(np.uint8).transpose(3, 0, 1, 2)
    part = file.with_suffix(".part")
    with part.open("wb") as opened:
        np.savez_compressed(
            opened, planes=np.ascontiguousarray(planes), sizes=sizes, n=n, configs=json.dumps(drawn)
        )
    part.replace(file)


def read_shard(file: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the table ``(configurations, epochs, columns)``, numbers of parameters, and of
    training samples.
    """
    with np.load(file, allow_pickle=False) as found:
        planes = np.ascontiguousarray(found["planes"].transpose(1, 2, 3, 0))
        return planes.view(np.float32)[..., 0].transpose(1, 2, 0), found["sizes"], int(found["n"])


def _curve(
    task: str, model: nn.Module, splits: Splits, config: dict[str, Any], regime: Regime
) -> Iterator[dict[str, float]]:
    """Yield a row an epoch; it ends early where the training diverges."""
    inputs, targets = splits.train
    batch = config["batch_size"]
    steps = EPOCHS * math.ceil(len(inputs) / batch)
    optimiser = torch.optim.AdamW(
        model.parameters(),
        config["learning_rate"],
        weight_decay=config["weight_decay"],
        fused=TASKS[task].lean or None,  # twice as fast, other rounding: what was recorded before is without
    )
    cosine = config["schedule"] == "cosine"
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps) if cosine else None
    likelihood = as_likelihood(TASKS[task].loss)
    gauge = RegimeGauge(model)
    for epoch in range(1, EPOCHS + 1):
        began = time.perf_counter()
        model.train()
        for rows in torch.randperm(len(inputs)).split(batch):
            loss = likelihood.losses(model(inputs[rows]), targets[rows]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if schedule is not None:
                schedule.step()
        with mode(model, False), torch.no_grad():
            found = {
                "val_loss": _loss(model, likelihood, splits.val),
                "train_loss": _loss(model, likelihood, splits.train),
            }
            seconds = time.perf_counter() - began
            found["test_loss"] = _loss(model, likelihood, splits.test)
        if not all(math.isfinite(value) for value in found.values()):
            return
        with mode(model, False), torch.no_grad():
            found |= {"seconds": seconds, "movement": gauge(model)}
            if epoch <= 3 or epoch % 3 == 0 or not TASKS[task].costly:
                found |= (
                    _lean(task, model, splits)
                    if TASKS[task].lean
                    else _estimates(task, model, splits, regime)
                )
        yield found


def _loss(model: nn.Module, likelihood: Any, part: tuple[Tensor, Tensor]) -> float:
    return float(
        torch.cat(
            [
                likelihood.losses(model(x), y)
                for x, y in zip(part[0].split(512), part[1].split(512), strict=True)
            ]
        ).mean()
    )


def _estimates(task: str, model: nn.Module, splits: Splits, regime: Regime) -> dict[str, float]:
    likelihood = as_likelihood(TASKS[task].loss)
    found: dict[str, float] = {}
    for side, (inputs, targets) in {"val": splits.val, "train": splits.train}.items():
        if side == "val" and regime == "all":
            continue
        for m in _SAMPLES:
            began = time.perf_counter()
            errors = partial(TIC()._errors, likelihood, targets[:m])
            rows = gradients(model, inputs[:m], errors, _MEMORY)
            trace = Trace(0)(rows, 1e-3)
            traced = time.perf_counter()
            gram = Gram(8 if m == 64 else 0)(rows, 1e-3)
            if m == 64:
                found |= {"trace_seconds": traced - began, "gram_seconds": time.perf_counter() - began}
                found[f"{side}/64/error"] = float(gram[1:].std(correction=0))
            values = {f"gram@{d:g}": float(gram[0] if d == 1e-3 else Gram(0)(rows, d)[0]) for d in DAMPINGS}
            values |= {
                "block": float(BlockWise(0)(rows, 1e-3)[0]),
                "diagonal": float(Diagonal(0)(rows, 1e-3)[0]),
            }
            values |= {"trace": float(trace[0]), "trace_c": float(rows.norms[0].mean())}
            found |= {f"{side}/{m}/{name}": value for name, value in values.items()}
    if regime == "split" and TASKS[task].loss == "cross_entropy" and targets.ndim == 1:
        inputs, targets = splits.val
        rows = gradients(
            model, inputs[:32], partial(TIC(fisher="all")._errors, likelihood, targets[:32]), _MEMORY
        )
        found["val/32/gram_all"] = float(Gram(0)(rows, 1e-3)[0])
    return found


def _lean(task: str, model: nn.Module, splits: Splits) -> dict[str, float]:
    """Return the estimates on 64 validation samples that arms look at."""
    inputs, targets = (part[:64] for part in splits.val)
    errors = partial(TIC()._errors, as_likelihood(TASKS[task].loss), targets)
    began = time.perf_counter()
    rows = gradients(model, inputs, errors, _MEMORY)
    trace = float(Trace(0)(rows, 1e-3)[0])
    traced = time.perf_counter()
    gram = Gram(8)(rows, 1e-3)
    found = {
        "error": float(gram[1:].std(correction=0)),
        "gram@0.01": float(Gram(0)(rows, 1e-2)[0]),
        "gram@0.001": float(gram[0]),
        "diagonal": float(Diagonal(0)(rows, 1e-3)[0]),
        "trace": trace,
        "trace_c": float(rows.norms[0].mean()),
    }
    seconds = {"trace_seconds": traced - began, "gram_seconds": time.perf_counter() - traced + traced - began}
    return seconds | {f"val/64/{name}": value for name, value in found.items()}


def _rounded(table: np.ndarray, bits: int) -> np.ndarray:
    """Round to `bits` bits of the fraction."""
    dropped = 23 - bits
    whole = np.ascontiguousarray(table).view(np.uint32)
    kept = (whole + np.uint32(1 << (dropped - 1))) & np.uint32((0xFFFFFFFF << dropped) & 0xFFFFFFFF)
    return np.where(np.isfinite(table), kept, whole).astype(np.uint32).view(np.float32)
