"""A training's state in a file, which is whole or not there; nothing in it can execute code."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from spaces.files import replacing


class Checkpoint:
    """What a training needs to go on, written to a temporary name and renamed, read with ``weights_only``.

    Args:
        path: of the file.
        key: what the state belongs to; a file of another key counts as none. Or the key and what it was in
            format 1, which is read as well.
        earlier: files to go on from where there is none at `path`, first ones first.
        every: epochs from one writing to the next; the last epoch is always written.
    """

    def __init__(
        self, path: Path, key: str | tuple[str, str] = "", earlier: Sequence[Path] = (), every: int = 1
    ) -> None:
        self._keys = (key,) if isinstance(key, str) else key
        self.path, self.key, self.earlier, self.every = path, self._keys[0], tuple(earlier), every

    def load(self) -> dict[str, Any] | None:
        """Return the state of the first file that is whole and of this key; None where there is none.

        What is found in an earlier file is written to `path` at once: a training that is stopped before its
        first own state has a file, too.
        """
        own = self._read(self.path)
        if own is not None:
            return own
        found = next((state for path in self.earlier if (state := self._read(path)) is not None), None)
        if found is not None:
            self.save(found)
        return found

    def save(self, state: dict[str, Any]) -> None:
        """Write a state; a reader finds the one before until it is complete."""
        with replacing(self.path) as file:
            torch.save({"key": self.key, "state": state}, file)

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            raw = io.BytesIO(path.read_bytes())
            # torch does not look at the checksums that it writes
            if zipfile.ZipFile(raw).testzip() is not None:
                return None
            raw.seek(0)
            found = torch.load(raw, map_location="cpu", weights_only=True)
            return found["state"] if found["key"] in self._keys else None
        except Exception:  # a damaged file can fail in any way, and all of them mean that there is none
            return None
