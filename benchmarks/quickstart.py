"""Whether the quickstart's models are faster: ``python -m benchmarks.quickstart [--quick] [--json FILE]``.

``configs/quickstart.yaml`` is run as ``make search`` runs it, by the command, in a folder of its own and with
an empty cache, for three seeds. Then the base model's ONNX file and those of the members whose test error is
at most a point above the base model's are timed in ONNX Runtime by turns, one thread, batch 1. What counts is
the base model's time over that of the fastest of them, the median over seeds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from evaluators.cost.latency import export, fastest_ms, onnx_call
from evaluators.data import Digits
from search.config.settings import Settings
from search.finish.export import ONNX
from search.record.finals import BASE, Final, load_finals
from search.record.ledger import Ledger
from spaces.structures import repeated

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "quickstart.yaml"
SEEDS, POINT = 3, 0.01
_ROUNDS, _SECONDS = 20, 0.05


def run(seed: int, folder: Path, words: list[str]) -> tuple[Path, float]:
    """Run the quickstart; return the folder of the run, and the seconds that it took."""
    command = [sys.executable, str(ROOT / "run_search.py"), str(CONFIG), "--runs", str(folder)]
    began = time.monotonic()
    subprocess.run(
        [*command, "--seed", str(seed), *words],
        env=os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return folder / "quickstart", time.monotonic() - began


def compared(directory: Path) -> dict[str, Any]:
    """Time the members that are about as good as the base model; return milliseconds and errors."""
    with closing(Ledger.reader(directory / "ledger.db")) as ledger:
        finals = {final.id: final for final in load_finals(ledger)}
    base = finals.pop(BASE)
    most = base.test["test_error"] + POINT
    good = [final for final in finals.values() if final.folder and final.test["test_error"] <= most]
    example = repeated(Digits().example(), 1)
    whole = Settings.parse([str(CONFIG)]).make("model").eval()  # any weights take as long
    files = [export(whole, example), *(str(directory / final.folder / ONNX) for final in good)]
    calls = [onnx_call(file, example) for file in files]
    took = np.min([[fastest_ms(call, 20, 5, _SECONDS) for call in calls] for _ in range(_ROUNDS)], axis=0)
    best = int(np.argmin(took))
    return {
        "base_ms": took[0],
        "base_error": base.test["test_error"],
        "speedup": took[0] / took[best],
        "members_within_a_point": len(good),
        "best": _told((base, *good)[best]) | {"ms": took[best]},
    }


def _told(final: Final) -> dict[str, Any]:
    return {
        "test_error": final.test["test_error"],
        "macs": final.realised.get("macs"),
        "predicted_ms": final.requested.get("latency_ms"),
    }


def measure(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return figures and settings."""
    words = ["--search.budget.evaluations", "64", "--finish.members", "2"] if quick else []
    seeds, seconds = [], []
    for seed in range(1 if quick else SEEDS):
        with tempfile.TemporaryDirectory() as folder:
            directory, took = run(seed, Path(folder), words)
            seeds.append(compared(directory))
            seconds.append(took)
    figures = {
        "quickstart_speedup": float(np.median([one["speedup"] for one in seeds])),
        "quickstart_speedup_worst": min(one["speedup"] for one in seeds),
        "seconds": float(np.median(seconds)),
        "by_seed": seeds,
    }
    return figures, {"config": CONFIG.name, "seeds": len(seeds), "point": POINT}


if __name__ == "__main__":
    harness.main("quickstart", measure)
