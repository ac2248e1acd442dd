"""``python -m benchmarks.strangers [--quick] [--json FILE]``: tries every model of the catalogue with every
tool, each in a process of its own with a limit of CPU time; what was tried is kept, and not tried again.

It runs in an environment of its own (``make strangers``), since torchvision needs another torch.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import sys
import tempfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.strangers.catalogue import CATALOGUE
from benchmarks.strangers.one import TOOLS, Outcome, within

SHARDS = Path(__file__).parent.parent / "results" / "strangers"
LIMIT = 180
"""CPU seconds of a model and a tool."""
_QUICK = 12
_EVERY = {"secateur": 1, "torch_pruning": 3, "torch_kirigami": 9}
"""Which models are tried: all, every third, every ninth. The others take minutes for many."""
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["benchmarks.strangers.one"])  # torch is imported once


def tried(name: str, tool: str, folder: Path, again: bool = False) -> Outcome:
    """Return what a tool makes of a model; tried once, and kept in a folder."""
    file = folder / f"{name.replace('/', '-')}-{tool}.json"
    if file.exists() and not again:
        kept: Outcome = json.loads(file.read_text())
        return kept
    with tempfile.NamedTemporaryFile("r", suffix=".json") as said:
        process = _PROCESSES.Process(target=within, args=(LIMIT, name, tool, said.name))
        process.start()
        process.join()
        outcome: Outcome = (
            json.loads(said.read())
            if process.exitcode == 0
            else {"state": "slow", "reason": f"not done in {LIMIT} CPU seconds"}
            if process.exitcode == -signal.SIGXCPU
            else {"state": "error", "reason": f"the process ended with {process.exitcode}"}
        )
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(harness.rounded(outcome), indent=1) + "\n")
    return outcome


def figures(found: dict[str, dict[str, Outcome]]) -> dict[str, Any]:
    """Return the figures of all that was tried, by tool and model; over another tool, of what it was tried
    on.
    """
    ours = found["secateur"]
    states = Counter(outcome["state"] for outcome in ours.values())
    seconds = [outcome["seconds"] for outcome in ours.values() if outcome["state"] == "works"]
    works = {
        tool: {name for name, outcome in tried.items() if outcome["state"] == "works"}
        for tool, tried in found.items()
    }
    others = [tool for tool in found if tool != "secateur"]
    written = [outcome["onnx"] for outcome in ours.values() if "onnx" in outcome]
    return {
        "models": len(ours),
        "works": states["works"] / len(ours),
        "states": dict(states),
        "wrong": states["wrong"],
        "seconds_to_plan": float(np.median(seconds)) if seconds else None,
        "left": float(np.median([o["left"] for o in ours.values() if "left" in o])),
        "onnx_tried": len(written),
        "onnx_equal": written.count("equal"),
        "onnx_not": {name: o["onnx"] for name, o in ours.items() if o.get("onnx", "equal") != "equal"},
        "works_by_tool": {tool: f"{len(works[tool])} of {len(tried)}" for tool, tried in found.items()},
        **{
            f"over_{tool}": len(works["secateur"] & {*found[tool]}) / max(1, len(works[tool]))
            for tool in others
        },
        "not": {name: f"{o['state']}: {o['reason']}" for name, o in ours.items() if o["state"] != "works"},
        "theirs_alone": sorted(set().union(*(works[tool] for tool in others)) - works["secateur"]),
        "by_library": _by_library(found, works),
    }


def _by_library(
    found: dict[str, dict[str, Outcome]], works: dict[str, set[str]]
) -> dict[str, dict[str, Any]]:
    rows = {}
    for library in sorted({name.partition("/")[0] for name in found["secateur"]}):
        own = [name for name in found["secateur"] if name.partition("/")[0] == library]
        seconds = [found["secateur"][name].get("seconds", LIMIT) for name in own]
        row: dict[str, Any] = {"models": len(own), "seconds": float(np.median(seconds))}
        for tool, tried in found.items():
            row[tool] = f"{len(works[tool] & {*own})} of {len({*tried} & {*own})}"
        rows[library] = row
    return rows


def table(told: dict[str, Any]) -> str:
    """Return the rows of docs/operations.md, one a library."""
    names = {"secateur": "Secateur", "torch_pruning": "Torch-Pruning", "torch_kirigami": "torch-kirigami"}
    columns = {tool: name for tool, name in names.items() if tool in told["works_by_tool"]}
    head = f"| library | {' | '.join(columns.values())} | CPU seconds to plan, median |"
    lines = [head, "| --- " * (len(columns) + 2) + "|"]
    for library, row in told["by_library"].items():
        counts = " | ".join(row[tool] for tool in columns)
        lines.append(f"| {library} | {counts} | {row['seconds']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Try, print, and write where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.strangers")
    parser.add_argument("--quick", action="store_true", help="twelve models")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    parser.add_argument("--again", nargs="*", default=[], metavar="NAME", help="try these again")
    parser.add_argument("--tools", nargs="*", choices=TOOLS, default=[*TOOLS], help="these alone")
    parser.add_argument("--only", metavar="LIBRARY", help="models of this library alone")
    given = parser.parse_args()
    names = [name for name, model in CATALOGUE.items() if given.only in (None, model.library)]
    missing = {CATALOGUE[name].library for name in names} - {
        library for library in {model.library for model in CATALOGUE.values()} if find_spec(library)
    }
    if missing:
        print(f"left out, since they are not installed: {', '.join(sorted(missing))}", file=sys.stderr)
    names = [name for name in names if CATALOGUE[name].library not in missing]
    names = names[:: max(1, len(names) // _QUICK)] if given.quick else names
    found: dict[str, dict[str, Outcome]] = {tool: {} for tool in given.tools}
    for number, name in enumerate(names):
        for tool in given.tools:
            if number % _EVERY[tool]:
                continue
            outcome = tried(name, tool, SHARDS, name in given.again)
            found[tool][name] = outcome
            words = f"{number + 1}/{len(names)} {name}, {tool}: {outcome['state']} {outcome['reason']}"
            print(words[:200], file=sys.stderr, flush=True)
    settings = {"limit_cpu_seconds": LIMIT, "models": names, "quick": given.quick}
    harness.report("strangers", figures(found), settings, harness.environment(), given.json)


if __name__ == "__main__":
    main()
