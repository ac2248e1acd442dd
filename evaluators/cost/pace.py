"""Times that nobody disturbed, on machines that others use, too."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence

import numpy as np

_WORK, _TIMES, _FIRST = range(2000), 3, 300
_TOLERANCE = 1.15
"""What a fixed piece of work may take over its least, on an undisturbed processor."""
_PATIENCE, _SHARE = 5.0, 0.25
"""Seconds that are waited in all, and the share of the time since the beginning that is added."""
_CLEAN, _MOST = 2, 12
"""Undisturbed measurements that are wanted of each, and rounds at most."""


class Pace:
    """Tells whether somebody slows the processor down just now. [O]

    On shared machines somebody else computes on the other half of the same core, for moments or seconds, and
    everything takes 1.2 to 1.5 times as long meanwhile. A fixed piece of work shows it: it takes longer, too.
    The least that it ever took is what counts as undisturbed.

    Args:
        work: the piece of work, a tenth of a millisecond at most.
        clock: gives seconds.
    """

    def __init__(
        self,
        work: Callable[[], object] = lambda: sum(_WORK),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._work, self._clock = work, clock
        self._least = min(self._took() for _ in range(_FIRST))
        self._began, self._waited = clock(), 0.0

    def undisturbed(self) -> bool:
        """Whether the piece of work takes about as long as at its fastest."""
        took = min(self._took() for _ in range(_TIMES))
        self._least = min(self._least, took)
        return took <= _TOLERANCE * self._least

    def wait(self) -> bool:
        """Return as soon as nobody disturbs, True; or False, where as much was waited as may be: 5 seconds
        and a quarter of the time since this was made. It waits by computing: a processor that slept is slow
        for a while itself.
        """
        before = now = self._clock()
        while not (undisturbed := self.undisturbed()):
            now = self._clock()
            if self._waited + now - before > _PATIENCE + _SHARE * (now - self._began):
                break
        self._waited += now - before
        return undisturbed

    def _took(self) -> float:
        start = self._clock()
        self._work()
        return self._clock() - start


def least(measurements: Sequence[Callable[[], float]], pace: Pace) -> np.ndarray:
    """Return the least that each of some measurements gives, ``(measurements,)``.

    They are taken in rounds over all of them, until nobody disturbed two of each, before and after; after
    twelve rounds it is as good as it gets.

    Args:
        measurements: what gives a time.
        pace: tells whether somebody disturbs.
    """
    found, wanted = np.full(len(measurements), np.inf), np.full(len(measurements), _CLEAN)
    for _ in range(_MOST):
        for i in np.flatnonzero(wanted).tolist():
            before = pace.wait()
            found[i] = min(found[i], measurements[i]())
            wanted[i] -= before and pace.undisturbed()
    return found


own_pace = functools.cache(Pace)
"""That of this process."""
