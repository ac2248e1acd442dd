"""Waits that follow what happens. How long one may take at most follows from how fast the machine is now, as
measured: a test that fails by its clock says something about the machine and nothing about the code.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
LEAST = 120.0  # seconds that a wait may take at least
TIMES = 20  # so many times as long as the longest start that was measured
QUIET = 4.0  # seconds that such a start takes on a small machine that does nothing else
_starts = [0.0]  # of this process, imports of torch and all, and of Ray


def measured(seconds: float) -> None:
    """Take in how long something took that takes a few seconds on a quiet machine."""
    _starts.append(seconds)


def patience() -> float:
    """Return the seconds after which a wait has failed."""
    return max(LEAST, TIMES * max(_starts))


def slowness() -> float:
    """Return how many times slower than a quiet machine this one is, from 1 to 10."""
    return min(max(1.0, max(_starts) / QUIET), 10.0)


def until(condition: Callable[[], T], what: str, pause: float = 0.05) -> T:
    """Return what the condition gives, as soon as that is true.

    Args:
        condition: asked again and again.
        what: is waited for; said where it does not come.
        pause: seconds between two questions.

    Raises:
        AssertionError: it did not come in ``patience()`` seconds.
    """
    began = time.monotonic()
    while not (found := condition()):
        waited = time.monotonic() - began
        assert waited < patience(), f"{what}: still waiting after {waited:.0f} s"
        time.sleep(pause)
    return found


def start_ray() -> None:
    """Start a Ray of two CPUs, unless this process has one, and measure how long that takes."""
    import ray

    if ray.is_initialized():
        return
    began = time.monotonic()
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    measured(time.monotonic() - began)
