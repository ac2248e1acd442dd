"""The standard streams of the process, lent to one candidate at a time: what it closes or turns aside is open
and in its place for everybody else.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any

_NAMES = ("stdin", "stdout", "stderr")
_NUMBERS = (1, 2)  # descriptors of what is written
_files: list[tuple[int, int] | None] = []
_copies: list[int | None] = []  # of the descriptors, when they led to these files


class Lent:
    """A stream that its borrower cannot close."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.write = stream.write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Any:
        return iter(self._stream)

    def detach(self) -> Any:
        """Refuse: others write there, too."""
        raise io.UnsupportedOperation("the stream is not the candidate's own")

    def close(self) -> None:
        """Close nothing: others write there, too."""
        with contextlib.suppress(Exception):
            self._stream.flush()


class Streams:
    """Inside ``with`` the candidate's own; it can be entered again and goes on where it left."""

    def __init__(self) -> None:
        self._inner: list[Any] | None = None
        self._outer: list[Any] | None = None

    def __enter__(self) -> None:
        files = [_file(number) for number in _NUMBERS]
        if files != _files:
            _keep(files)
        self._outer = [getattr(sys, name) for name in _NAMES]
        for name, stream in zip(_NAMES, self._inner or map(_lend, self._outer), strict=True):
            setattr(sys, name, stream)

    def __exit__(self, *_: object) -> None:
        self._inner = [getattr(sys, name) for name in _NAMES]
        self.put_back()

    def put_back(self) -> None:
        """Have what was outside again, unless that is done."""
        if self._outer is None:
            return
        for name, stream in zip(_NAMES, self._outer, strict=True):
            setattr(sys, name, stream)
        for number, file, copy in zip(_NUMBERS, _files, _copies, strict=True):
            if copy is not None and _file(number) != file:
                os.dup2(copy, number)
        self._outer = None


def _lend(stream: Any) -> Any:
    return Lent(stream) if hasattr(stream, "write") else stream


def _file(number: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _keep(files: list[tuple[int, int] | None]) -> None:
    """Have a copy of each descriptor at hand."""
    for copy in _copies:
        if copy is not None:
            os.close(copy)
    _copies[:] = [
        None if file is None else os.dup(number) for number, file in zip(_NUMBERS, files, strict=True)
    ]
    _files[:] = files
