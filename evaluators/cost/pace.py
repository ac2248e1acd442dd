"""Whether the processor is as fast as it can be just now."""

from __future__ import annotations

import time
from collections.abc import Callable

_WORK, _TIMES = range(2000), 3
_TOLERANCE = 1.15
"""What a fixed piece of work may take over its least, on an undisturbed processor."""
_PAUSE = 0.02
_PATIENCE, _SHARE = 5.0, 0.6
"""Seconds that are waited in all, and the share of the time since the beginning that is added."""


class Pace:
    """Waits for moments in which nobody slows the processor down. [O]

    On shared machines somebody else computes on the other half of the same core for seconds at a time, and
    everything takes 1.2 to 1.5 times as long meanwhile. A fixed piece of work shows it: it takes longer, too.
    The least that it ever took is what counts as undisturbed.

    Args:
        work: the piece of work.
        clock: gives seconds.
        sleep: waits so many.
    """

    def __init__(
        self,
        work: Callable[[], object] = lambda: sum(_WORK),
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._work, self._clock, self._sleep = work, clock, sleep
        self._least = float("inf")
        self._began, self._waited = clock(), 0.0

    def wait(self) -> None:
        """Return as soon as nothing disturbs; or at once, where as much was waited already as may be: 5
        seconds and 60 % of the time since this was made.
        """
        before = now = self._clock()
        while not self._undisturbed():
            if self._waited + now - before >= _PATIENCE + _SHARE * (now - self._began):
                break
            self._sleep(_PAUSE)
            now = self._clock()
        self._waited += now - before

    def _undisturbed(self) -> bool:
        took = float("inf")
        for _ in range(_TIMES):
            start = self._clock()
            self._work()
            took = min(took, self._clock() - start)
        self._least = min(self._least, took)
        return took <= _TOLERANCE * self._least
