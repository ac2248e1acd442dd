"""A function that reports by a call, read as a generator reads one that yields."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Generator
from queue import SimpleQueue
from typing import Any

Value = Any
_PATIENCE = 10.0
"""Seconds that a stopped function has to tidy up. After that it is left alone."""


class Stopped(BaseException):
    """Raised inside of a function that is read no further. Not an Exception: its own handlers shall let it
    pass.
    """


def reported(function: Callable[[Callable[[Value], None]], Any]) -> Generator[Value, None, Any]:
    """Call a function with a function `report`, yield what that is called with, and return its result.

    It runs in a thread of its own, and only while this generator is asked for the next value: `report` comes
    back when the value after it is wanted. Where the generator is closed, or interrupted while it waits, the
    function ends by :class:`Stopped`, raised by `report` or wherever it is. What it raises itself is raised
    here.

    Args:
        function: called with `report`, which takes one value.
    """
    said: SimpleQueue[tuple[str, Any]] = SimpleQueue()
    wanted: SimpleQueue[bool] = SimpleQueue()
    over = threading.Event()

    def report(value: Value) -> None:
        if over.is_set():
            raise Stopped
        said.put(("report", value))
        if not wanted.get():
            raise Stopped

    def run() -> None:
        try:
            said.put(("result", function(report)))
        except BaseException as error:
            said.put(("error", error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = said.get()
            if kind == "result":
                return value
            if kind == "error":
                raise value
            yield value
            wanted.put(True)
    finally:
        over.set()
        wanted.put(False)
        if thread.is_alive():
            _interrupt(thread)


def _interrupt(thread: threading.Thread) -> None:
    """Raise :class:`Stopped` in a thread, where it does not end by itself."""
    thread.join(0.1)
    if thread.is_alive() and thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Stopped))
        thread.join(_PATIENCE)
