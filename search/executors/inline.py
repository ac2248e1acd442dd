"""Evaluations in this very process, one after another."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from evaluators.base import Candidate, Cause, Evaluator, Report
from search.executors.base import Event, Finished, Reported
from search.executors.work import evaluate, failed, pruned, worker_name
from spaces.base import Space


class InlineExecutor:
    """Evaluates in the process that asks: no Ray, nothing to set up, and what the tests of all others are
    compared with.

    Args:
        time_limit: seconds per candidate; kept by a timer signal, so in the main thread only, and code that
            stays outside the interpreter (one long call into a library) is stopped when it comes back.
    """

    capacity = workers = 1

    def __init__(self, time_limit: float | None = None) -> None:
        self.time_limit = time_limit
        self._queue: deque[Candidate] = deque()
        self._ready: list[Event] = []
        self._current: Candidate | None = None
        self._stream = _nothing()
        self._last: Report | None = None
        self._seconds = 0.0

    def start(self, space: Space, evaluator: Evaluator) -> None:
        self._space, self._evaluator = space, evaluator

    def submit(self, candidates: Sequence[Candidate]) -> None:
        self._queue.extend(candidates)

    def events(self, timeout: float | None = None) -> list[Event]:
        """Work until the next report or end of a candidate, whatever the timeout."""
        events, self._ready = self._ready, []
        while not events or not isinstance(events[-1], Reported | Finished):
            if self._current is None:
                if not self._queue:
                    break
                self._current, self._last, self._seconds = self._queue.popleft(), None, 0.0
                self._stream = evaluate(self._space, self._evaluator, self._current)
            events.append(self._step(self._current))
        return events

    def cancel(self, id: int) -> None:
        if self._current is not None and self._current.id == id:
            self._ready.append(
                Finished(pruned(self._evaluator, self._current, self._last, self._seconds, worker_name()))
            )
            self._forget()

    def withdraw(self) -> list[int]:
        ids = [candidate.id for candidate in self._queue]
        self._queue.clear()
        return ids

    def close(self) -> None:
        self._queue.clear()
        self._forget()

    def _step(self, candidate: Candidate) -> Event:
        began = time.perf_counter()
        try:
            with _alarm(self._left()):
                event = next(self._stream)
        except _TimeUp:
            event = Finished(
                failed(
                    candidate,
                    f"exceeded the time limit of {self.time_limit:g} s",
                    self.time_limit or 0,
                    worker_name(),
                    cause=Cause.TIME_LIMIT,
                )
            )
        self._seconds += time.perf_counter() - began
        if isinstance(event, Reported):
            self._last = event.report
        elif isinstance(event, Finished):
            self._forget()
        return event

    def _left(self) -> float | None:
        """Seconds that the current candidate has left.

        Raises:
            _TimeUp: none.
        """
        if self.time_limit is None or threading.current_thread() is not threading.main_thread():
            return None
        if self._seconds >= self.time_limit:
            raise _TimeUp
        return self.time_limit - self._seconds

    def _forget(self) -> None:
        stream, self._stream = self._stream, _nothing()
        self._current, self._last = None, None
        self._seconds = 0.0
        with suppress(_TimeUp), _alarm(self._left()):  # its code may tidy up
            stream.close()


def _nothing() -> Generator[Event, None, None]:
    yield from ()


class _TimeUp(BaseException):
    """Not an Exception: the user's own handlers shall let it pass."""


@contextmanager
def _alarm(seconds: float | None) -> Iterator[None]:
    """Raise :class:`_TimeUp` in the block after so many seconds, and every second from then on until the
    block is left.
    """
    if seconds is None:
        yield
        return

    def ring(signum: int, frame: FrameType | None) -> None:
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3), 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
