"""``python -m benchmarks.latency.faster [--quick] [--only NAME ...] [--json FILE]``: what searching by
predicted latency brings over searching by MACs.

Of each network and seed, a trained model is searched by every arm with the same number of candidates: by
error and MACs, by the same with widths in eights, and by error and predicted latency, widths left to the
latency model. Then, at five errors on the search split that all fronts reach, the member that each arm would
choose there is exported and measured in ONNX Runtime at batch 1, in rounds over all of them. What is compared
is its latency by latency over that by MACs: the geometric mean over errors and seeds, with an interval by
bootstrap over seeds. What an arm found is kept, a file each, and not searched again.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from benchmarks import harness
from benchmarks.int8 import DepthwiseNet, digits
from evaluators import Cost, LatencyModel, Quality, Training, assess
from evaluators.cost.latency import fastest_ms
from evaluators.cost.latency_model import RUNTIMES
from evaluators.data import Arrays, Preloaded, Split
from operators.repair.batchnorm import recalibrate
from search import Search
from spaces import ChannelSpace
from spaces.files import write_bytes
from spaces.models import ResidualNet

SHARDS = Path(__file__).parent.parent / "results" / "latency" / "faster"
SEEDS, EVALUATIONS, ERRORS = 5, 150, 5
SHARES: dict[Split, float] = {"train": 0.5, "calibration": 0.05, "search": 0.15, "test": 0.3}
WORST = 0.3
"""Errors beyond are of no interest."""
_ROUNDS, _SECONDS = 10, 0.03


@dataclass(frozen=True)
class Case:
    """A network on the digits of scikit-learn, and for how many epochs it is trained."""

    model: Callable[[], nn.Module]
    pixels: int
    epochs: int


@dataclass(frozen=True)
class Arm:
    """What is minimised beside the error, and of which numbers widths are multiples."""

    cost: str
    round_to: int | Literal["auto"]


CASES = {
    "residual": Case(lambda: ResidualNet((64, 128, 256)), 32, 4),
    "depthwise": Case(lambda: DepthwiseNet((32, 64, 128, 256, 256, 512)), 32, 6),
}
QUICK = {"residual": Case(lambda: ResidualNet((16, 32)), 8, 2)}
BY_MACS, IN_EIGHTS, BY_LATENCY = "macs", "macs_in_eights", "latency"
ARMS = {BY_MACS: Arm("macs", 1), IN_EIGHTS: Arm("macs", 8), BY_LATENCY: Arm("latency_ms", "auto")}


def trained(case: Case, seed: int) -> tuple[nn.Module, Arrays]:
    """Return a network and its data."""
    torch.manual_seed(seed)
    data, model = digits(case.pixels, seed, SHARES), case.model()
    for _ in Training(case.epochs, batch_size=32, learning_rate=3e-3).fitted(model, data):
        pass
    return model.eval(), data


def searched(model: nn.Module, data: Arrays, arm: Arm, seed: int, evaluations: int) -> list[dict[str, Any]]:
    """Search; return the front: errors, test errors, costs, and what was kept."""
    quality = Quality()
    search = Search(
        model,
        data,
        space=functools.partial(ChannelSpace, round_to=arm.round_to),
        evaluators=[Cost(), *([LatencyModel("onnx")] if arm.cost == "latency_ms" else []), quality],
        objectives=["error", arm.cost],
        constraints=[f"error <= {WORST}"],
        seed=seed,
    )
    result = search.run(evaluations=evaluations)
    space, batches = result.problem.space, Preloaded(data)
    front = []
    for member in result.front:
        genome = member.candidate.genome
        pruned = space.build(genome)
        recalibrate(pruned, batches.batches("calibration", 256))
        test = assess(pruned, data, batches.batches("test", 256))["error"]
        front.append(
            {
                "error": member.metrics["error"],
                "test_error": test,
                "cost": member.metrics[arm.cost],
                "macs": member.metrics["macs"],
                "kept": space.pack(genome).hex(),
            }
        )
    return front


def common_errors(fronts: Iterable[Sequence[dict[str, Any]]], count: int = ERRORS) -> np.ndarray:
    """Return errors that all fronts reach, evenly spaced, ``(count,)``."""
    errors = [[member["error"] for member in front] for front in fronts]
    least, most = max(map(min, errors)), min(map(max, errors))
    return np.linspace(least, max(least, most), count)


def chosen(front: Sequence[dict[str, Any]], error: float) -> dict[str, Any]:
    """Return the member that whoever accepts an error would take: that of least cost."""
    return min((member for member in front if member["error"] <= error), key=lambda member: member["cost"])


def measured(space: ChannelSpace, data: Arrays, kept: Sequence[str]) -> np.ndarray:
    """Return milliseconds of each in ONNX Runtime at batch 1, measured in rounds over all, ``(n,)``."""
    runtime, example = RUNTIMES["onnx"](1), tuple(part[:1] for part in data.example())
    calls = [runtime.prepared(space.build(space.unpack(bytes.fromhex(one))), example)[1] for one in kept]
    rounds = [[fastest_ms(call, 5, 2, _SECONDS) for call in calls] for _ in range(_ROUNDS)]
    return np.min(rounds, axis=0)


def compared(case: Case, seed: int, fronts: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Measure what the arms would choose at common errors."""
    data = digits(case.pixels, seed, SHARES)
    space = ChannelSpace(case.model().eval(), data.example())  # latency is that of any weights
    errors = common_errors(fronts.values())
    members = {name: [chosen(front, error) for error in errors] for name, front in fronts.items()}
    whole = space.pack(space.base).hex()
    every = [whole, *dict.fromkeys(member["kept"] for own in members.values() for member in own)]
    took = dict(zip(every, measured(space, data, every).tolist(), strict=True))
    return {
        "base_ms": took[whole],
        "errors": errors.tolist(),
        "ms": {name: [took[member["kept"]] for member in own] for name, own in members.items()},
        "test_errors": {name: [member["test_error"] for member in own] for name, own in members.items()},
    }


def ratios(told: Sequence[dict[str, Any]], arm: str, over: str) -> dict[str, float]:
    """Return the geometric mean of one arm's milliseconds over another's, and its interval over seeds."""
    logs = np.array([np.log(np.array(one["ms"][arm]) / one["ms"][over]).mean() for one in told])
    drawn = np.random.default_rng(0).choice(logs, (2000, len(logs))).mean(axis=1)
    low, high = np.exp(np.quantile(drawn, [0.025, 0.975]))
    return {"mean": float(np.exp(logs.mean())), "low": float(low), "high": float(high)}


def _once(file: Path | None, make: Callable[[], Any]) -> Any:
    """Return what a file holds; made and written where it is missing, without a file made each time."""
    if file is None or not file.exists():
        made = harness.rounded(make())
        if file is None:
            return made
        write_bytes(file, f"{json.dumps(made)}\n".encode())
    return json.loads(file.read_text())


def run(cases: dict[str, Case], seeds: int, evaluations: int, folder: Path | None) -> dict[str, Any]:
    """Search and measure what is missing; return the figures."""
    figures: dict[str, Any] = {}
    for name, case in cases.items():
        told = []
        for seed in range(seeds):
            files = {
                key: folder and folder / f"{name}-{seed}-{number}.json" for number, key in enumerate(ARMS)
            }
            last = folder and folder / f"{name}-{seed}-measured.json"
            base = functools.cache(functools.partial(trained, case, seed))
            fronts = {
                key: _once(files[key], lambda arm=arm: searched(*base(), arm, seed, evaluations))  # noqa: B023
                for key, arm in ARMS.items()
            }
            told.append(_once(last, lambda: compared(case, seed, fronts)))  # noqa: B023
        figures[f"{name}_base_ms"] = float(np.median([one["base_ms"] for one in told]))
        for over in (BY_MACS, IN_EIGHTS):
            figures |= {f"{name}_over_{over}_{k}": v for k, v in ratios(told, BY_LATENCY, over).items()}
        for key in ARMS:
            figures[f"{name}_test_error_{key}"] = float(np.mean([one["test_errors"][key] for one in told]))
    return figures


def main() -> None:
    """Search and measure what is missing, print, and write where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency.faster")
    parser.add_argument("--quick", action="store_true", help="a small network, few candidates, kept nowhere")
    parser.add_argument("--only", nargs="+", choices=CASES, default=[*CASES], help="these networks")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    where = harness.environment()
    if given.quick:
        figures = run(QUICK, 1, 40, None)
    else:
        figures = run({name: CASES[name] for name in given.only}, given.seeds, EVALUATIONS, SHARDS)
    settings = {"quick": given.quick, "seeds": given.seeds, "evaluations": EVALUATIONS, "errors": ERRORS}
    harness.report("latency.faster", figures, settings, where, given.json)


if __name__ == "__main__":
    main()
