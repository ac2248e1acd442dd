"""``python -m benchmarks.latency [--quick] [--json FILE]``: predicted over measured latency, random genomes.

Of each of five networks and of each runtime: calibrated once; then other genomes, half of them of any
density, half of .50 to .55 of the MACs, are measured in rounds over all of them, and predicted. The floor is
what two halves of the rounds differ by. What is measured is kept, a file a network and a runtime, and not
measured again.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks import harness
from benchmarks.latency.networks import NETWORKS
from evaluators.cost import PlannedCosts
from evaluators.cost.latency import fastest_ms
from evaluators.cost.latency_model import RUNTIMES
from evaluators.cost.pace import least, own_pace
from evaluators.cost.predicted.calibration import calibrate, random_genomes
from spaces import ChannelSpace

SHARDS = Path(__file__).parent.parent / "results" / "latency"
GENOMES, POPULATION = 60, 1000
_SECONDS = 0.03
_BAND = (0.50, 0.55)
_LIMITS = {"onnx": (0.04, 0.10), "torch": (0.06, 0.15)}


def tried(name: str, runtime_name: str, genomes: int) -> dict[str, Any]:
    """Calibrate for one network and runtime; return predicted and measured milliseconds of random genomes."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    make, inputs = NETWORKS[name]
    space = ChannelSpace(make().eval(), (inputs(2),))
    runtime, example = RUNTIMES[runtime_name](1), (inputs(1),)
    began = time.monotonic()
    prediction = calibrate(space, example, runtime)
    calibrated = time.monotonic() - began
    predict = prediction.bound(space.plan)
    rng = np.random.default_rng(1)
    drawn = {"any": random_genomes(space, genomes, rng), "band": _in_band(space, genomes, rng)}
    told: dict[str, Any] = {"seconds_to_calibrate": calibrated}
    for kind, population in drawn.items():
        calls = [runtime.prepared(space.build(genome), example)[1] for genome in population]
        halves = _halves(calls)
        told[kind] = {"predicted": predict(population).tolist(), "measured": halves.tolist()}
    many = random_genomes(space, POPULATION, rng)
    predict(many)
    began = time.perf_counter()
    predict(many)
    return told | {"prediction_us": 1e6 * (time.perf_counter() - began) / POPULATION}


def figures_of(told: dict[str, Any]) -> dict[str, float]:
    """Return the figures of one network and runtime."""
    predicted, halves = np.array(told["any"]["predicted"]), np.array(told["any"]["measured"])
    off, floor = np.abs(predicted / halves.min(axis=0) - 1), np.abs(halves[0] / halves[1] - 1)
    band, again = np.array(told["band"]["predicted"]), np.array(told["band"]["measured"])
    rank, own = spearmanr(band, again.min(axis=0))[0], spearmanr(*again)[0]
    return {
        "median_error": float(np.median(off)),
        "p90_error": float(np.quantile(off, 0.9)),
        "floor_median": float(np.median(floor)),
        "floor_p90": float(np.quantile(floor, 0.9)),
        "rank_correlation": float(rank),
        "rank_correlation_of_the_measurement": float(own),
        "rank_ratio": float(rank / own),
        "prediction_us": told["prediction_us"],
        "seconds_to_calibrate": told["seconds_to_calibrate"],
    }


def worst(figures: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return the worst network's figures, by runtime."""
    found = {}
    for runtime in sorted({name.rpartition("_")[2] for name in figures}):
        own = [told for name, told in figures.items() if name.endswith(f"_{runtime}")]
        for figure, choose in {
            "median_error": max,
            "p90_error": max,
            "floor_p90": max,
            "rank_ratio": min,
            "prediction_us": max,
            "seconds_to_calibrate": max,
        }.items():
            found[f"{runtime}_{figure}"] = choose(told[figure] for told in own)
    return found


def _in_band(space: ChannelSpace, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return genomes of .50 to .55 of the MACs, of any shape."""
    macs = PlannedCosts(space.plan)
    whole, found = macs(space.base[None])["macs"][0], np.zeros((0, space.length), dtype=np.uint8)
    while len(found) < n:
        some = random_genomes(space, 2000, rng)
        share = macs(some)["macs"] / whole
        found = np.concatenate([found, some[(share >= _BAND[0]) & (share <= _BAND[1])]])
    return found[:n]


def _halves(calls: list[Callable[[], object]]) -> np.ndarray:
    """Return the fastest milliseconds of every call, in rounds over all of them, and once more,
    ``(2, calls)``.
    """
    measurements = [functools.partial(fastest_ms, call, 5, 2, _SECONDS) for call in calls]
    return np.stack([least(measurements, own_pace()) for _ in range(2)])


def main() -> None:
    """Measure what is missing, print, and write where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency")
    parser.add_argument("--quick", action="store_true", help="one network, few genomes, kept nowhere")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    given = parser.parse_args()
    figures: dict[str, Any] = {}
    for runtime in ["torch"] if given.quick else ["onnx", "torch"]:
        for name in [*NETWORKS][: 1 if given.quick else None]:
            file = SHARDS / f"{name}-{runtime}.json"
            if given.quick or not file.exists():
                told = tried(name, runtime, 8 if given.quick else GENOMES)
                if not given.quick:
                    SHARDS.mkdir(parents=True, exist_ok=True)
                    file.write_text(json.dumps(harness.rounded(told)) + "\n")
            else:
                told = json.loads(file.read_text())
            figures[f"{name}_{runtime}"] = figures_of(told)
            print(name, runtime, harness.rounded(figures[f"{name}_{runtime}"]), flush=True)
    figures |= worst(figures)
    limits = {name: {"median_error": m, "p90_error": p} for name, (m, p) in _LIMITS.items()}
    settings = {"quick": given.quick, "genomes": GENOMES, "population": POPULATION, "limits": limits}
    harness.report("latency", figures, settings, harness.environment(), given.json)


if __name__ == "__main__":
    main()
