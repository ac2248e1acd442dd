"""A run on disk: where its files lie, and what is written once when it starts."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from spaces.errors import InputError
from spaces.files import replacing
from spaces.redaction import redacted, redacted_words

PACKAGES = (
    "secateur",
    "torch",
    "numpy",
    "deap",
    "optuna",
    "ray",
    "networkx",
    "jsonargparse",
    "safetensors",
    "onnx",
    "onnxruntime",
)


class RunDirectory:
    """The folder of a run, ``runs/<name>``.

    Args:
        path: the folder; made by :meth:`create`, expected to hold a run by :meth:`open`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = path / "lock"
        self.ledger = path / "ledger.db"
        self.config = path / "config.yaml"
        self.environment = path / "environment.json"
        self.models = path / "models"
        self.report = path / "report.html"
        self.front = path / "front.csv"
        self.study = path / "study.log"
        self.state = path / "state"

    @classmethod
    def create(cls, path: str | Path) -> RunDirectory:
        """Make the folder, or take the one that is there.

        Raises:
            InputError: where it cannot be made or written to.
        """
        directory = cls(Path(path).absolute())
        try:
            directory.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory.path):
                pass
        except OSError as error:
            raise InputError(
                f"runs: cannot write to {directory.path}: {error.strerror}; expected a folder that can be "
                f"made and written to"
            ) from None
        return directory

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """Take the folder of a run that has been started before.

        Raises:
            InputError: where there is none.
        """
        directory = cls(Path(path).absolute())
        if not directory.ledger.is_file():
            raise InputError(f"{path}: no run there; expected the folder of a run, with its ledger.db")
        return directory

    def write_config(self, text: str) -> None:
        """Keep the resolved configuration, which runs again as it is."""
        write(self.config, text)

    def write_environment(self) -> None:
        """Keep what the results may depend on: versions, device, git commit; what an earlier call wrote stays
        as ``before``.
        """
        found = environment()
        if self.environment.is_file():
            try:
                earlier = json.loads(self.environment.read_bytes())
            except (ValueError, RecursionError):
                earlier = {}
            earlier = told_without_secrets(earlier) if isinstance(earlier, dict) else {}
            before = earlier.pop("before", [])
            before = [told_without_secrets(one) for one in before] if isinstance(before, list) else []
            if earlier and earlier != found:
                before.append(earlier)
            found["before"] = before
        write(self.environment, json.dumps(found, indent=2) + "\n")


def told_without_secrets(found: object) -> Any:
    """Return what :func:`environment` found, perhaps in an older version, without secrets."""
    if isinstance(found, dict) and isinstance(words := found.get("command"), list):
        found = found | {"command": redacted_words(map(str, words))}
    return redacted(found)


def write(path: Path, text: str) -> None:
    """Write a text file that only its owner may read; a reader sees the old one or the new one, whole."""
    with replacing(path, private=True) as part:
        part.write_text(text)


def environment() -> dict[str, object]:
    """Versions, device and git commit of this process, ready for JSON."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "git_commit": _commit(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "command": redacted_words(sys.argv),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )


def _commit() -> str | None:
    """The commit of the checkout that this code runs from, with ``+`` where files differ from it."""
    folder = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str:
        return subprocess.run(
            ("git", "-C", str(folder), *words), capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != folder:
            return None  # installed inside another repository
        return git("rev-parse", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None
