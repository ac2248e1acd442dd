"""What candidates do that should not reach anybody else."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import nn

from evaluators.base import Candidate, Evaluator, Report
from search.testing import BitSpace

SPACE = BitSpace(4)


class Own(Exception):
    """Cannot be made again from its arguments, nor pickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")
        self.lock = threading.Lock()


class Base(BaseException):
    """None that `except Exception` catches."""


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class Wordless(Exception):
    def __str__(self) -> str:
        return 3  # type: ignore[return-value]


class Quitter(Exception):
    def __reduce__(self) -> str:
        raise SystemExit


class Name(str):
    """A name that does not pickle."""

    def __new__(cls) -> Name:
        made = super().__new__(cls, "own")
        made.lock = threading.Lock()  # type: ignore[attr-defined]
        return made


class Step:
    """A number that does not pickle."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __index__(self) -> int:
        return 4

    __int__ = __index__


RAISED = {
    "own": (lambda: Own(1, 2), "Own: 1 and 2"),
    "base": (lambda: Base("below"), "Base: below"),
    "mute": (Mute, "Mute: (its message cannot be read: RuntimeError)"),
    "wordless": (Wordless, "Wordless: (its message cannot be read: TypeError)"),
    "quitter": (lambda: Quitter("q"), "Quitter: q"),
    "interrupt": (KeyboardInterrupt, "KeyboardInterrupt"),
    "exit": (lambda: SystemExit(3), "SystemExit: 3"),
    "generator": (GeneratorExit, "GeneratorExit"),
    "stop": (StopIteration, "RuntimeError: generator raised StopIteration"),
    "huge": (lambda: ValueError("x" * 50_000_000), "ValueError: " + "x" * 288),
    "unprintable": (lambda: ValueError("a\udc80\0\x1b[2J"), "ValueError: a\ufffd\ufffd\ufffd[2J"),
    "chained": (
        lambda: ValueError("outer", Mute()),
        "ValueError: (its message cannot be read: RuntimeError)",
    ),
}
FAILED = {name: told for name, (_, told) in RAISED.items()} | {
    "metric": "AttributeError: 'NoneType' object has no attribute 'metrics'",
    "number": "TypeError: something in a report is called 3; expected a string",
    "endless": "exceeded the time limit",
    "fast": "exceeded the time limit",
}
"""What fails, and the beginning of why."""
FINE = ("step", "name", "fork", "folder", "thread", "stdout", "descriptor")
"""What does not fail: it is the candidate's own business."""


class Misdeeds(Evaluator):
    """Candidates do what stands at their ids."""

    metrics = ("loss",)

    def __init__(self, deeds: list[str], folder: Path) -> None:
        self.deeds, self.folder = deeds, str(folder)

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        deed = self.deeds[candidate.id]
        yield Report({"loss": 1.0})
        if deed in RAISED:
            raise RAISED[deed][0]()
        if deed == "metric":
            yield None  # type: ignore[misc]
        if deed == "number":
            yield Report({"loss": 1.0, 3: 1.0})  # type: ignore[dict-item]
        if deed == "name":
            yield Report({"loss": 1.0, Name(): 1.0}, arrays={Name(): np.ones(1)})
        if deed == "endless":
            for step in itertools.count():
                time.sleep(0.05)
                yield Report({"loss": 1.0}, step)
        if deed == "fast":
            while True:
                yield Report({"loss": 1.0})
        if deed == "step":
            yield Report({"loss": 1.0}, Step())  # type: ignore[arg-type]
        if deed == "fork" and os.fork() == 0:
            return  # the child comes back, too
        if deed == "folder":
            os.chdir(self.folder)
        if deed == "thread":
            threading.Thread(target=time.sleep, args=(0.2,)).start()
        if deed == "stdout":
            sys.stdout.close()
        if deed == "descriptor":
            os.close(1)
        if deed == "die":
            os._exit(1)
        yield Report({"loss": float(candidate.id)})
