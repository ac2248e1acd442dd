"""Output that nobody reads any more, as that of ``secateur plan ... | head``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Outlet:
    """A stream that goes on in silence once its reader has left: a search has results to keep.

    Args:
        stream: that is written to, with a descriptor of its own.

    Attributes:
        is_unread: whether the reader has left.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.is_unread = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or let it be."""
        try:
            self._stream.write(text)
        except BrokenPipeError:
            self._silence()
        return len(text)

    def flush(self) -> None:
        """Write what waits, or let it be."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._silence()

    def _silence(self) -> None:
        """Let all that follows, from whomever it comes, go nowhere."""
        self.is_unread = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextmanager
def outlets() -> Iterator[Outlet]:
    """Let readers of standard output and standard error leave; what is yielded is the former."""
    before = sys.stdout, sys.stderr
    made = [Outlet(stream) for stream in before]
    sys.stdout, sys.stderr = made
    try:
        yield made[0]
    finally:
        for outlet in made:
            outlet.flush()
        sys.stdout, sys.stderr = before
