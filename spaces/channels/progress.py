"""Lines for people while planning lasts: of what takes seconds nothing is said."""

from __future__ import annotations

import sys
import time

PROGRESS = 5.0
"""Seconds between two lines."""


class Progress:
    """Tells on the error stream what is done, from `PROGRESS` seconds after it was made on."""

    def __init__(self) -> None:
        self._start = self._told = time.monotonic()

    def tell(self, text: str) -> None:
        """Print a line if the last one, or the start, was long enough ago."""
        now = time.monotonic()
        if now - self._told > PROGRESS:
            self._told = now
            print(f"space: {text} ({now - self._start:.0f} s)", file=sys.stderr, flush=True)
