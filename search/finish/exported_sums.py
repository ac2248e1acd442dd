"""Checksums of exported files, kept in the ledger: a damaged file is exported again."""

from __future__ import annotations

import hashlib
from pathlib import Path

from search.finish.export import ONNX
from search.finish.recipe import RECIPE, WEIGHTS
from search.record.ledger import Ledger

_NOTE = "exported/"
"""Begins the names of notes in the ledger, followed by a folder: file -> SHA-256."""


def keep_sums(ledger: Ledger, directory: Path, folder: str) -> None:
    """Note what the files in an exported model's folder hold; the caller commits.

    Args:
        ledger: of the run.
        directory: of the run.
        folder: of the model, relative to it.
    """
    files = [directory / folder / name for name in (RECIPE, WEIGHTS, ONNX)]
    ledger.save_note(f"{_NOTE}{folder}", {file.name: _sum(file) for file in files if file.is_file()})


def is_whole(ledger: Ledger, directory: Path, folder: str) -> bool:
    """Return whether the files of an exported model hold what was written; true where nothing was noted, as
    in older versions.
    """
    noted = ledger.note(f"{_NOTE}{folder}") or {}
    return all(
        (file := directory / folder / name).is_file() and _sum(file) == found for name, found in noted.items()
    )


def _sum(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
