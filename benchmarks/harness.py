"""What all benchmarks share: their arguments, their output, where they ran, and medians with spreads."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("SECATEUR_PLAN_CACHE", "off")  # what is measured is made, not found

Measure = Callable[[bool], tuple[dict[str, Any], dict[str, Any]]]
"""``measure(quick)`` returns figures and settings, both plain enough for JSON."""


def main(name: str, measure: Measure) -> None:
    """Measure, print the figures, and write them with settings and environment where ``--json`` says."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    parser.add_argument("--quick", action="store_true", help="under 50 seconds on 2 cores, less precise")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    arguments = parser.parse_args()
    where = environment()
    figures, settings = measure(arguments.quick)
    report(name, figures, {"quick": arguments.quick} | settings, where, arguments.json)


def report(
    name: str, figures: dict[str, Any], settings: dict[str, Any], where: dict[str, Any], file: Path | None
) -> None:
    """Print a result as JSON, and write it to a file, if one is named.

    Args:
        where: the environment it was measured in.
    """
    result = {"benchmark": name, "figures": figures, "settings": settings, "environment": where}
    text = json.dumps(rounded(result), indent=2)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    print(text)


def spread(values: Iterable[float]) -> dict[str, float]:
    """Return the median, the quartiles and the number of values."""
    array = np.asarray(list(values), dtype=np.float64)
    low, median, high = np.quantile(array, [0.25, 0.5, 0.75])
    return {"median": float(median), "low": float(low), "high": float(high), "n": len(array)}


def rounded(value: Any) -> Any:
    """Return the value with floats to six digits, NumPy's numbers as Python's."""
    if isinstance(value, dict):
        return {str(key): rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return float(f"{value:.6g}") if isinstance(value, float) else value


def last_line(text: str) -> str:
    """Return the last line of a text that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it ended without a word"


def environment(checkout: Path | None = None) -> dict[str, str | int | float]:
    """Return versions, processor, load, and the git commit of a checkout; None: of this one."""
    return {
        "python": platform.python_version(),
        **{package: _version(package) for package in ("torch", "ray", "numpy", "optuna")},
        "cpus": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "load": os.getloadavg()[0],
        "commit": _commit(checkout or Path(__file__).resolve().parent),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )


def _commit(checkout: Path) -> str:
    """The commit of a checkout, with a plus where files differ from it."""
    git = ["git", "-C", str(checkout)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + ("+" if changed else "")
