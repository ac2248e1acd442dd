"""int8 after pruning: size, speed and error of the int8 file over the float ONNX file of the same member.

Networks are trained, cut to a share of the channels of every group (the largest by magnitude, in eights),
tuned for a while, exported and quantised by ``Finish`` as a run does it. Both files are then timed by turns,
in one process, one thread, batch 1: the median over rounds of the float file's time over the int8 file's.
It is CPU time of this thread, since others may use the machine. Members whose float file has less than 500 kB
are shown and do not count. ``int8_size`` and ``int8_speedup`` are medians, ``int8_loss`` is the worst.

The figures of a network are a shard under ``results/int8``; what is there stays. ``--quick`` reads and writes
none.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import harness
from benchmarks.fronts.nets import SmallUNet
from benchmarks.fronts.tasks import Characters
from evaluators import Cost, Evaluators, Quality, Training
from evaluators.base import Candidate, Evaluation, State
from evaluators.cost.latency import onnx_call
from evaluators.data import Arrays, Data, Digits, Phantoms
from evaluators.data.base import SPLITS, Split
from evaluators.data.tokens import TokenClassification
from operators.criteria import Magnitude
from search.executors import InlineExecutor
from search.finish.export import INT8, ONNX
from search.finish.finish import Finish
from search.finish.quantiser import processor
from search.problem import Objective, Problem
from search.record.about import About
from search.record.finals import Final
from search.record.ledger import Ledger
from spaces import ChannelSpace
from spaces.files import write_bytes
from spaces.models import ResidualNet
from spaces.structures import repeated

SHARDS = Path(__file__).parent / "results" / "int8"
LEAST = 500_000
"""Bytes of a float file that counts."""
ROUNDS, BATCHES = 200, (1, 16)


class DepthwiseNet(nn.Module):
    """Depthwise and pointwise convolutions by turns, as in MobileNet (Howard et al. 2017)."""

    def __init__(self, widths: Sequence[int], classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_convolution(1, widths[0], 3)]
        for before, width in itertools.pairwise(widths):
            stride = 2 if width > before else 1
            layers += [*_convolution(before, before, 3, before, stride), *_convolution(before, width, 1)]
        self.features, self.head = nn.Sequential(*layers), nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


class Encoder(nn.Module):
    """As BERT: tokens ``(batch, length)`` to logits ``(batch, length, symbols)``, each from all places."""

    def __init__(self, symbols: int, length: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(symbols, width), nn.Embedding(length, width)
        self.layers = nn.ModuleList(
            [
                nn.TransformerEncoderLayer(
                    width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
                )
                for _ in range(depth)
            ]
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, symbols)
        for table in (self.tokens, self.places):
            nn.init.normal_(table.weight, std=0.3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]).expand_as(tokens))
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


def digits(size: int, seed: int = 0, shares: dict[Split, float] | None = None) -> Arrays:
    """The digits of scikit-learn, their pixels repeated to `size`."""
    data = Digits(shares, seed)
    return _changed(
        data, lambda x, y, _: (x.repeat_interleave(size // 8, 2).repeat_interleave(size // 8, 3), y)
    )


def characters(train: int) -> Arrays:
    """Stretches of 64 characters of the standard library, a tenth of which were replaced: to be restored."""

    def replaced(inputs: Tensor, _: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        others = torch.from_numpy(rng.integers(0, Characters.symbols, inputs.shape))
        return torch.where(torch.from_numpy(rng.random(inputs.shape) < 0.1), others, inputs), inputs

    return _changed(Characters().data(0), replaced, TokenClassification(), train)


def _changed(data: Arrays, change: Callable[..., Any], task: Any = None, train: int | None = None) -> Arrays:
    rng, parts = np.random.default_rng(0), []
    for split in SPLITS:
        inputs, targets = next(data.batches(split, data.size(split)))
        most = train if split == "train" else None
        parts.append(tuple(part[:most].numpy() for part in change(inputs, targets, rng)))
    edges = np.cumsum([0, *(len(inputs) for inputs, _ in parts)])
    rows = {split: np.arange(a, b) for split, a, b in zip(SPLITS, edges, edges[1:], strict=False)}
    inputs, targets = (np.concatenate(both) for both in zip(*parts, strict=True))
    return Arrays(inputs, targets, rows, task or data.task)  # type: ignore[arg-type]


def _convolution(inputs: int, outputs: int, size: int, groups: int = 1, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


@dataclass(frozen=True)
class Case:
    """A network, its data, and how long it is trained and its members are tuned.

    Attributes:
        error: the metric whose loss is `int8_loss`.
    """

    model: Callable[[], nn.Module]
    data: Callable[[], Data]
    epochs: int
    tuning: int
    batch: int = 32
    rate: float = 3e-3
    error: str = "error"


CASES = {
    "residual 48-96-192, digits at 32 x 32": Case(
        lambda: ResidualNet((48, 96, 192)), functools.partial(digits, 32), 2, 1
    ),
    "depthwise, digits at 32 x 32": Case(
        lambda: DepthwiseNet((32, 64, 128, 256, 256, 512)), functools.partial(digits, 32), 3, 1
    ),
    "U-Net 48-96-192, phantoms of 32 x 32": Case(
        lambda: SmallUNet((48, 96, 192)),
        lambda: Phantoms(32, {"search": 120, "test": 240}, 0.3),
        4, 1, 8, 5e-3, "dice_error",
    ),
    "encoder 192 x 2, characters": Case(
        lambda: Encoder(Characters.symbols, Characters.length, 192, 2, 4),
        functools.partial(characters, 1024), 3, 1, 16, 1e-3,
    ),
    "residual 16-32-64, digits": Case(lambda: ResidualNet(), lambda: Digits(), 4, 2),
}  # fmt: skip
KEPT = (0.5, 0.75)
QUICK = {
    "residual 32-64-128, digits at 16 x 16": Case(
        lambda: ResidualNet((32, 64, 128)), functools.partial(digits, 16), 1, 1
    )
}


def measure(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures and settings."""
    torch.set_num_threads(1)
    cases, shares = (QUICK, KEPT[1:]) if quick else (CASES, KEPT)
    members: dict[str, dict[str, Any]] = {}
    for name, case in cases.items():
        members |= _members(name, case, shares, 40) if quick else _recorded(name, case)
    counted = [one for one in members.values() if one["float_bytes"] >= LEAST and "missing" not in one]
    figures = {
        "int8_size": float(np.median([one["size"] for one in counted])),
        "int8_size_worst": max(one["size"] for one in counted),
        "int8_speedup": float(np.median([one["speedup"] for one in counted])),
        "int8_speedup_worst": min(one["speedup"] for one in counted),
        "int8_loss": max(one["loss"] for one in counted),
        "counted": len(counted),
        "without_int8": sum("missing" in one for one in members.values()),
        "members": members,
    }
    return figures, {
        "networks": [*cases],
        "kept": shares,
        "least_bytes": LEAST,
        "rounds": ROUNDS,
        "tolerance": 0.01,
        **processor(),
    }


def _recorded(name: str, case: Case) -> dict[str, dict[str, Any]]:
    """Return the figures of a network's members; measured where they are not there yet."""
    file = SHARDS / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}.json"
    if not file.exists():
        text = json.dumps(harness.rounded(_members(name, case, KEPT, ROUNDS)), indent=2)
        write_bytes(file, f"{text}\n".encode())
    found: dict[str, dict[str, Any]] = json.loads(file.read_text())
    return found


def _members(name: str, case: Case, shares: Sequence[float], rounds: int) -> dict[str, dict[str, Any]]:
    """Train a network; return the figures of its members."""
    torch.manual_seed(0)
    data, model = case.data(), case.model()
    for _ in Training(case.epochs, batch_size=case.batch, learning_rate=case.rate).fitted(model, data):
        pass
    space = ChannelSpace(model.eval(), data.example())
    evaluator = Evaluators([Cost(), Quality(record_activations=False)])
    evaluator.bind(space, data)
    base = {key: float(values[0]) for key, values in evaluator.screen(space.base[None]).items()}
    problem = Problem(space, evaluator, (Objective(case.error), Objective("macs")), (), base)
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.db", space)
        About.of(name, problem).save(ledger)
        for id, share in enumerate(shares):
            genome = _largest(space, share)
            costs = {key: float(values[0]) for key, values in evaluator.screen(genome[None]).items()}
            candidate = Candidate(id, genome)
            ledger.add_candidates([candidate])
            ledger.add_evaluation(
                Evaluation(candidate, State.COMPLETE, costs | {case.error: 1 - share, "loss": 1.0})
            )
        ledger.commit()
        finals = Finish(
            len(shares),
            case.tuning,
            case.rate / 3,
            case.batch,
            base=False,
            latency_seconds=0.1,
            quantise="int8",
        ).run(problem, InlineExecutor(), ledger, Path(folder))
        found = {
            f"{name}, {shares[final.id]:.0%} of the channels": _figures(
                final, Path(folder), case, data, rounds
            )
            for final in finals
        }
        ledger.close()
    return found


def _largest(space: ChannelSpace, share: float) -> np.ndarray:
    """Return the mask that keeps the largest channels of every group, in eights where there are as many."""
    scores = Magnitude().score(space.model, [], space.plan, None)  # type: ignore[arg-type]  # it needs neither
    genome = np.zeros(space.length, np.uint8)
    for name, part in space.slices.items():
        size = part.stop - part.start
        kept = max(1, round(size * share / 8) * 8 if size >= 16 else round(size * share))
        genome[part.start + np.argsort(-scores[name].numpy(), kind="stable")[:kept]] = 1
    return space.repair(genome[None])[0]


def _figures(final: Final, folder: Path, case: Case, data: Data, rounds: int) -> dict[str, Any]:
    known, whole = final.int8, final.onnx.get("bytes", 0)
    if "missing" in known:
        return {"float_bytes": whole, "missing": known["missing"]}
    files = [folder / final.folder / name for name in (ONNX, INT8)]
    error = f"test_{case.error}"
    return {
        "float_bytes": whole,
        "size": known["bytes"] / whole,
        "speedup": _speedup(files, data, 1, rounds),
        f"speedup_batch_{BATCHES[1]}": _speedup(files, data, BATCHES[1], rounds // 20),
        "loss": known["test"][error] - final.test[error],
        "float_error": final.test[error],
        "kept_float": known["kept_float"],
        "layers": known["layers"],
        "difference": known["difference"],
    }


def _speedup(files: Sequence[Path], data: Data, batch: int, rounds: int) -> float:
    """Return the median over rounds of the first file's CPU time over the second's."""
    calls = [onnx_call(str(file), repeated(data.example(), batch)) for file in files]
    for call in calls * 3:
        call()
    ratios = []
    for _ in range(rounds):
        took = []
        for call in calls:
            began = time.thread_time()
            call()
            took.append(time.thread_time() - began)
        ratios.append(took[0] / took[1])
    return float(np.median(ratios))


if __name__ == "__main__":
    harness.main("int8", measure)
