"""Ctrl-C: once ends the search in good order, twice leaves at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptible(interrupt: Callable[[], None], say: Callable[[str], None]) -> Iterator[None]:
    """Call `interrupt` at the first SIGINT or SIGTERM; raise KeyboardInterrupt at the second.

    Signals reach the main thread alone: in any other one nothing is changed. A SIGTERM that nobody else
    handles ends the process, too, as soon as all is in good order.

    Args:
        interrupt: asks for an end in good order; it is called between two instructions of the main thread.
        say: tells the person what happens now.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: int | None = None

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked is not None:
            raise KeyboardInterrupt
        asked = number
        interrupt()
        say("interrupted: finishing what is in flight, then saving (once more: leave at once)")

    before: dict[int, Any] = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked == signal.SIGTERM and before[signal.SIGTERM] is signal.SIG_DFL:
        raise SystemExit(128 + signal.SIGTERM)
