"""``python -m benchmarks.gpu [--quick] [--device cpu] [--only PART ...] [--json FILE]``: a search on one GPU.

Eight minutes at most. ``candidates``: how many a second are scored one by one, several at once and otherwise;
``ray``: by how many tasks that share the GPU; ``latency``: how far its predicted latency is off; and
``quickstart``: the whole of it there. Each part is a process of its own with a deadline. Where one fails, or
is late, its line ``failed`` says so, and what it had found by then stays. ``--device cpu`` tries the script.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import harness
from benchmarks.latency.networks import NETWORKS
from benchmarks.scoring import SCORED, Scoring, Way, population, rates
from evaluators import Cost, Data, Evaluators, Quality
from evaluators.base import Candidate
from evaluators.cost.predicted.calibration import calibrate, random_genomes
from evaluators.cost.predicted.eager import TorchRuntime
from evaluators.cost.predicted.runtime import Runtime
from search.executors import Finished
from search.executors.work import evaluate
from spaces import ChannelSpace
from spaces.calling import Example
from spaces.files import replacing
from spaces.models import ResidualNet

ROOT = Path(__file__).resolve().parents[1]
SECONDS = {"candidates": 105, "ray": 95, "latency": 100, "quickstart": 155}
"""How long a part may take; what it leaves is the next one's."""
_TRIED, _SMALLEST = (("residual", 1), ("residual", 256), ("bert", 32), ("depthwise", 256)), (("tiny", 1),)
"""Networks whose latency is predicted, and samples of a call."""
_ENOUGH = 65
"""Seconds after which no other network's latency is tried."""
_GRACE = 4.0
"""Seconds in which a part that is late can tidy up: processes of Ray are no children of its own."""

Figures = Iterator[tuple[str, Any]]


def candidates(device: str, quick: bool) -> Figures:
    """Score candidates in several ways; ``search`` is what the engine does with each, repair included."""
    for name in ("small",) if quick else SCORED:
        space, data = _planned(name)
        images, targets = (torch.cat(parts) for parts in zip(*data.batches("search", 4096), strict=True))
        scoring = Scoring(space, images, targets)
        processes = 2 if quick else 4
        context = get_context("spawn")
        with ProcessPoolExecutor(processes, context, _load, (scoring, device)) as pool:
            here = scoring.on(device)
            ways: dict[str, Way] = {
                "one_by_one": here.one_by_one,
                "search": _engine(space, data, device),
                "queued": lambda genomes, here=here: here.streams(genomes, 1),
                "streams_4": lambda genomes, here=here: here.streams(genomes, 4),
                "grouped_by_8": here.grouped,
                "bf16": here.half,
                f"processes_{processes}": lambda genomes, pool=pool, n=processes: _spread(pool, genomes, n),
            }
            yield name, rates(ways, population(space, 2 if quick else 8, 8), 1 if quick else 20)


def _planned(name: str) -> tuple[ChannelSpace, Data]:
    torch.manual_seed(0)
    make, load = SCORED[name]
    data = load()
    return ChannelSpace(make().eval(), data.example()), data


def _engine(space: ChannelSpace, data: Data, device: str) -> Way:
    evaluator = Evaluators([Cost(), Quality()])
    evaluator.bind(space, data)

    def scored(genomes: np.ndarray) -> list[float]:
        events = (evaluate(space, evaluator, Candidate(i, g), device=device) for i, g in enumerate(genomes))
        found = [one.evaluation for each in events for one in each if isinstance(one, Finished)]
        if faults := [evaluation.reason for evaluation in found if evaluation.reason]:
            raise RuntimeError(faults[0])
        return [evaluation.metrics["error"] for evaluation in found]

    return scored


_loaded: list[Scoring] = []
"""What a process of the pool scores by."""


def _load(scoring: Scoring, device: str) -> None:
    torch.set_num_threads(1)
    _loaded[:] = [scoring.on(device)]


def _scored(genomes: np.ndarray) -> list[float]:
    return _loaded[0].one_by_one(genomes)


def _spread(pool: ProcessPoolExecutor, genomes: np.ndarray, count: int) -> np.ndarray:
    found = np.empty(len(genomes))
    for i, errors in enumerate(pool.map(_scored, [genomes[i::count] for i in range(count)])):
        found[i::count] = errors
    return found


def ray(device: str, quick: bool) -> Figures:
    """Return candidates a second of the whole loop, by the share of the GPU that a task holds; 0 is the CPU,
    a task a core.
    """
    from benchmarks.loop import problem, ray_rate
    from search.executors import RayExecutor
    from search.executors.ray_connection import connect

    connect(None, None)  # one cluster for all of them
    cores = len(os.sched_getaffinity(0))
    for name in ("small",) if quick else SCORED:
        shares = (0.0,) if device == "cpu" else (0.0, 1.0, 0.5, 0.25, 0.125)
        space, data = _planned(name)
        task = problem(space, Evaluators([Cost(), Quality()]), ("error", "macs"), data)
        found: dict[str, float] = {}
        for share in shares:
            workers = min(round(1 / share), cores) if share else cores
            executor = RayExecutor(workers=workers, gpus_per_task=share, batch=4)
            first = ray_rate(workers, 8 * workers, executor, task)
            found[f"{share:g}"] = ray_rate(workers, max(8, int(first * (1 if quick else 4))), executor, task)
            executor.close()
            yield name, {"per_second": found}


def latency(device: str, quick: bool) -> Figures:
    """Compare predicted with measured latency."""
    tiny = (lambda: ResidualNet((8, 16), inputs=3), NETWORKS["residual"][1])
    end = time.monotonic() + _ENOUGH
    for name, batch in _SMALLEST if quick else _TRIED:
        if time.monotonic() < end:
            make, inputs = {**NETWORKS, "tiny": tiny}[name]
            torch.manual_seed(0)
            space = ChannelSpace(make().eval(), (inputs(2),))
            many = (8, 4) if quick else (16, 30)
            yield f"{name}_{batch}", tried(space, (inputs(batch),), TorchRuntime(1, device), *many)


def tried(
    space: ChannelSpace, inputs: Example, runtime: Runtime, networks: int, genomes: int
) -> dict[str, float]:
    """Calibrate; return how far predictions for other genomes are off, and two halves of their measurement
    from each other.
    """
    began = time.monotonic()
    prediction = calibrate(space, inputs, runtime, networks)
    took = time.monotonic() - began
    drawn = random_genomes(space, genomes, np.random.default_rng(1))
    calls = [runtime.prepared(space.build(genome), inputs)[1] for genome in drawn]
    halves = np.array([runtime.whole(calls), runtime.whole(calls)])
    off = np.abs(prediction.bound(space.plan)(drawn) / halves.min(axis=0) - 1)
    floor = np.abs(halves[0] / halves[1] - 1)
    return {
        "median_error": float(np.median(off)),
        "p90_error": float(np.quantile(off, 0.9)),
        "floor_median": float(np.median(floor)),
        "floor_p90": float(np.quantile(floor, 0.9)),
        "slowest_over_fastest": float(halves.max() / halves.min()),
        "ms_median": float(np.median(halves.min(axis=0))),
        "seconds_to_calibrate": took,
    }


def quickstart(device: str, quick: bool) -> Figures:
    """Run the quickstart with four tasks on the GPU, and then on all cores without it."""
    small = ("--training.epochs", "1", "--search.budget.evaluations", "24", "--finish.members", "1")
    small += (
        "--finish.epochs",
        "1",
        "--constraints",
        "[]",
        *(() if device == "cuda" else ("--executor", "inline")),
    )
    shares = (0.0,) if device == "cpu" else (0.25, 0.0)
    for share in shares:
        with tempfile.TemporaryDirectory() as folder:
            words = [sys.executable, str(ROOT / "run_search.py"), str(ROOT / "configs/digits_channels.yaml")]
            words += ["--ray.gpus_per_task", f"{share:g}", *(small if quick else ())]
            began = time.monotonic()
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(harness.last_line(done.stderr))
            yield f"{share:g}", {"seconds": time.monotonic() - began} | _models(Path(folder))


def _models(folder: Path) -> dict[str, float]:
    (index,) = folder.glob("runs/*/models/index.json")
    tests = [one["test"] for one in json.loads(index.read_text())["models"]]
    return {"models": len(tests), "least_test_error": min(test["test_error"] for test in tests)}


PARTS: dict[str, Callable[[str, bool], Figures]] = {
    "candidates": candidates,
    "ray": ray,
    "latency": latency,
    "quickstart": quickstart,
}


def told(command: Sequence[str], file: Path, seconds: float) -> dict[str, Any]:
    """Run a part in a process of its own.

    Args:
        command: that writes its figures to `file` as it finds them.
        file: of figures.
        seconds: that it may take.

    Returns:
        Its figures, its ``seconds``, and where it ``failed`` how.
    """
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
        try:
            code = process.wait(max(0.0, seconds))
            said.seek(0)
            fault = f"{harness.last_line(said.read())} (exit status {code})" if code else ""
        except subprocess.TimeoutExpired:
            fault = f"not done after {max(0.0, seconds):.0f} s"
        finally:
            _end(process)
    figures = json.loads(file.read_text()) if file.exists() else {}
    return figures | {"seconds": time.monotonic() - began} | ({"failed": fault} if fault else {})


def _end(process: subprocess.Popen) -> None:
    """End what a part has left running."""
    for sign, patience in ((signal.SIGINT, _GRACE), (signal.SIGKILL, None)):
        if process.poll() is not None:
            return
        os.killpg(process.pid, sign)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue


def record(figures: Figures, file: Path) -> None:
    """Write figures as they are found."""
    found: dict[str, Any] = {}
    for name, figure in figures:
        found[name] = figure
        with replacing(file) as new:
            new.write_text(json.dumps(harness.rounded(found)))


def main() -> int:
    """Run the parts one after another; return 1 where one failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--quick", action="store_true", help="the smallest of each part")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS], metavar="PART")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch sees no CUDA GPU; --device cpu --quick tries the script")
    if given.part:
        record(PARTS[given.part](given.device, given.quick), given.json)
        return 0
    where, deadline = harness.environment(), time.monotonic()
    options = ["--device", given.device, *(["--quick"] if given.quick else [])]
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in given.only:
            file, deadline = Path(folder) / f"{name}.json", deadline + SECONDS[name]
            command = [sys.executable, "-m", "benchmarks.gpu", "--part", name, *options, "--json", str(file)]
            figures[name] = told(command, file, deadline - time.monotonic())
            print(name, json.dumps(harness.rounded(figures[name])), file=sys.stderr, flush=True)
    gpu = torch.cuda.get_device_name() if given.device == "cuda" else "none"
    settings = {
        "quick": given.quick,
        "device": given.device,
        "gpu": gpu,
        "cuda": torch.version.cuda or "none",
    }
    harness.report("gpu", figures, settings, where, given.json)
    return int(any("failed" in one for one in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
