"""A training's state in a file, which is whole or not there; nothing in it can execute code."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spaces.files import replacing


def left_before(state: Path, genome: np.ndarray) -> Path:
    """Return where the checkpoint lies that a training of a genome in another run left, if it was brought."""
    return state / "trials" / "before" / f"{hashlib.sha256(genome.tobytes()).hexdigest()[:32]}.pt"


class Checkpoint:
    """What a training needs to go on, written to a temporary name and renamed, read with ``weights_only``.

    Args:
        path: of the file.
        key: what the state belongs to; a file of another key counts as none. Or the key and what it was in
            format 1, which is read as well.
        earlier: files to go on from where there is none at `path`, first ones first.
        every: epochs from one writing to the next; the last epoch is always written.
        before: a file of another run to go on from at last, and what says of its key whether it is of the
            same training over fewer epochs.
    """

    def __init__(
        self,
        path: Path,
        key: str | tuple[str, str] = "",
        earlier: Sequence[Path] = (),
        every: int = 1,
        before: tuple[Path, Callable[[str], bool]] | None = None,
    ) -> None:
        self._before = before
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
        if found is None and self._before is not None:
            found = self._read(*self._before)
        if found is not None:
            self.save(found)
        return found

    def save(self, state: dict[str, Any]) -> None:
        """Write a state; a reader finds the one before until it is complete."""
        with replacing(self.path) as file:
            torch.save({"key": self.key, "state": state}, file)

    def _read(self, path: Path, accepts: Callable[[str], bool] | None = None) -> dict[str, Any] | None:
        try:
            raw = io.BytesIO(path.read_bytes())
            # torch does not look at the checksums that it writes
            if zipfile.ZipFile(raw).testzip() is not None:
                return None
            raw.seek(0)
            found = torch.load(raw, map_location="cpu", weights_only=True)
            meant = found["key"] in self._keys if accepts is None else accepts(found["key"])
            return found["state"] if meant else None
        except Exception:  # a damaged file can fail in any way, and all of them mean that there is none
            return None
