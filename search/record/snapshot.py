"""Where a search is, in one file beside its ledger, so that resuming need not tell everything once more.

The ledger stays the only truth: a snapshot that is missing, damaged or of something else is passed over, and
what it says follows from the ledger alone. Nothing in it can execute code.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spaces.files import replacing

NAME = "snapshot.bin"
_MAGIC = b"Secateur snapshot 1\n"
_EVERY = 2000
_SHARE = 64


class Snapshots:
    """Writes and reads the snapshot of a run: JSON, and arrays of plain dtypes, under a checksum.

    Writing takes at most a sixty-fourth of the CPU time of the process: the more there is to write, the less
    often it is written.

    Args:
        path: of the ledger; None keeps none.

    Attributes:
        spent: CPU seconds of writing in all.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = None if path is None else path.with_name(NAME)
        self._told, self._cost, self._written = 0, 0.0, time.process_time()
        self.spent = 0.0

    def begin(self, told: int) -> None:
        """Count from so many results on."""
        self._told = told

    def due(self, told: int, least: int = _EVERY) -> bool:
        """Whether it is time to write one, after so many results."""
        if self._path is None or told - self._told < least:
            return False
        return time.process_time() - self._written >= _SHARE * self._cost

    def write(self, told: int, fits: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Write a snapshot in the place of the last one; where there is no room for it there is none.

        Args:
            told: number of results that it stands for.
            fits: what :meth:`read` compares.
            state: values that JSON can hold, and arrays of plain dtypes, nested in dicts with text keys and
                lists.
        """
        if self._path is None:
            return
        began = time.process_time()
        arrays: dict[str, np.ndarray] = {}
        tree = json.dumps({"fits": dict(fits), "state": _out(state, arrays)})
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, tree=np.frombuffer(tree.encode(), np.uint8), **arrays)
        content = file.getvalue()
        try:
            with replacing(self._path) as part:
                part.write_bytes(_MAGIC + hashlib.sha256(content).digest() + content)
        except OSError:  # of a full disk the ledger tells
            self.discard()
        self._told, self._written = told, time.process_time()
        self._cost = self._written - began
        self.spent += self._cost

    def read(self, fits: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the state of the last snapshot; None where there is none, or none that fits."""
        try:
            held = b"" if self._path is None else self._path.read_bytes()
        except OSError:
            return None
        digest, content = held[len(_MAGIC) :][:32], held[len(_MAGIC) + 32 :]
        if not held.startswith(_MAGIC) or hashlib.sha256(content).digest() != digest:
            return None
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                tree = json.loads(arrays["tree"].tobytes())
                if tree["fits"] != json.loads(json.dumps(dict(fits))):
                    return None
                state = _in(tree["state"], arrays)
        except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile):
            return None
        return state if isinstance(state, dict) else None

    def discard(self) -> None:
        """Delete it: the ledger is about to say something else."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


def _out(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return a value for JSON; arrays are replaced by their names.

    Raises:
        TypeError: of what JSON cannot hold, and of arrays of objects.
    """
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError("an array of objects cannot be kept")
        name = f"array{len(arrays)}"
        arrays[name] = value
        return {"array": name}
    if isinstance(value, Mapping):
        return {"items": {key: _out(item, arrays) for key, item in value.items()}}
    if isinstance(value, list | tuple):
        return [_out(item, arrays) for item in value]
    return value


def _in(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_in(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    return {key: _in(item, arrays) for key, item in value["items"].items()}
