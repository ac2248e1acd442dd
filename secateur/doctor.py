"""``secateur doctor``: what is missing on this machine, and how to get it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

_RAY = "import ray; ray.init(address='local', num_cpus=1, include_dashboard=False, logging_level='ERROR')"
_RAY_SECONDS = 120.0
_GIB = 2**30
_LEAST_DISK, _LEAST_MEMORY, _LEAST_SHARED = 2 * _GIB, 2 * _GIB, 2**28
_EXTRAS = {
    "export": "ONNX files, written and run: without it give --finish.onnx false",
    "dashboard": "the command dashboard",
    "transformers": "models of Hugging Face",
}
_WORDS = {"good": "ok", "note": "note", "missing": "MISSING"}


@dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    Attributes:
        state: missing: no search can run; note: something that a search can do without.
        what: it is.
        how: to get it, empty where it is there.
    """

    state: Literal["good", "note", "missing"]
    what: str
    how: str = ""

    def __str__(self) -> str:
        return f"{_WORDS[self.state]:8}{self.what}{f'; {self.how}' if self.how else ''}"


def examine(runs: Path) -> Iterator[Finding]:
    """Look at everything, one after the other.

    Args:
        runs: folder that runs are written to.
    """
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("good" if sys.version_info >= (3, 11) else "missing", f"Python {version}", "")
    yield from packages()
    for look in (graphics, ray, memory):
        yield look()
    yield disk(runs)


def packages(version: Callable[[str], str] = metadata.version) -> Iterator[Finding]:
    """Look at what is installed, as the package itself says what it needs."""
    try:
        needed = [Requirement(text) for text in metadata.requires("secateur") or ()]
    except metadata.PackageNotFoundError:
        yield Finding("missing", "secateur is not installed", "pip install --editable . in its folder")
        return
    lacking = [told for one in needed if one.marker is None and (told := _lacking(one, version))]
    if lacking:
        yield Finding("missing", ", ".join(lacking), "pip install secateur")
    else:
        yield Finding("good", f"PyTorch {version('torch')}, Ray {version('ray')}, and what else is needed")
    for extra, why in _EXTRAS.items():
        of_extra = [one for one in needed if one.marker is not None and one.marker.evaluate({"extra": extra})]
        if not of_extra:
            continue  # installed by an older version, which did not have it
        lacking = [told for one in of_extra if (told := _lacking(one, version))]
        if lacking:
            yield Finding("note", f"{', '.join(lacking)} ({why})", f"pip install 'secateur[{extra}]'")
        else:
            yield Finding("good", f"{', '.join(one.name for one in of_extra)} ({why.partition(':')[0]})")


def _lacking(needed: Requirement, version: Callable[[str], str]) -> str:
    """Return what is wrong with an installed package, empty where nothing is."""
    try:
        found = version(needed.name)
    except metadata.PackageNotFoundError:
        return f"{needed.name} is not installed"
    fits = needed.specifier.contains(found, prereleases=True)
    return "" if fits else f"{needed.name} {found} is installed, {needed.specifier} is needed"


def graphics() -> Finding:
    """See whether torch reaches the GPU that is there."""
    try:
        import torch
    except ImportError as error:
        return Finding("missing", f"PyTorch cannot be imported ({error})", "pip install secateur")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
        return Finding("good", f"GPU: {', '.join(names)}; ray.gpus_per_task gives tasks a share of it")
    if shutil.which("nvidia-smi") is None:
        return Finding("good", "no GPU: searches run on the CPU")
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    return Finding(
        "note",
        f"a GPU that PyTorch does not reach ({built})",
        "install the build for the driver: pytorch.org",
    )


def ray() -> Finding:
    """Start Ray on this machine, in a process of its own."""
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-P", "-c", _RAY]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_RAY_SECONDS, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        return Finding(
            "missing",
            f"Ray does not start within {_RAY_SECONDS:g} s",
            "until it does, give --executor inline",
        )
    if done.returncode == 0:
        return Finding("good", f"Ray starts; {os.cpu_count()} CPUs")
    last = ([line for line in done.stderr.splitlines() if line.strip()] or ["it ended without a word"])[-1]
    return Finding("missing", f"Ray does not start: {last[:160]}", "until it does, give --executor inline")


def memory() -> Finding:
    """See how much memory there is, and how much of it processes can share."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if total < _LEAST_MEMORY:
        return Finding("note", f"{total / _GIB:.1f} GiB of memory", "give --ray.workers 1")
    shared = Path("/dev/shm")
    if shared.is_dir() and (size := shutil.disk_usage(shared).total) < _LEAST_SHARED:
        return Finding(
            "note",
            f"/dev/shm has {size / _GIB:.2f} GiB, Ray is slow",
            "docker run --shm-size=2g gives it more",
        )
    return Finding("good", f"{total / _GIB:.1f} GiB of memory")


def disk(runs: Path) -> Finding:
    """See whether runs can be written, and how much room there is."""
    folder = next(path for path in (runs.absolute(), *runs.absolute().parents) if path.is_dir())
    if not os.access(folder, os.W_OK):
        return Finding("missing", f"{folder} cannot be written to", "give --runs FOLDER")
    free = shutil.disk_usage(folder).free
    if free < _LEAST_DISK:
        return Finding(
            "note", f"{free / _GIB:.1f} GiB free in {folder}", "give --runs FOLDER on a larger disk"
        )
    return Finding("good", f"{free / _GIB:.0f} GiB free for runs in {folder}")
