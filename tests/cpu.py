"""CPU time of this process and of everything that came of it."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import NamedTuple

import psutil

EVERY = 0.3  # seconds between two samples


class Seconds(NamedTuple):
    """CPU seconds, of one process or of many."""

    user: float
    system: float


class Usage:
    """Samples this process and its descendants: nobody here waits for the daemons of Ray and their workers,
    so that the kernel's sum of waited-for children lacks them.

    A process counts with its own time when it was last seen. Where its parent waited for it, the parent was
    told the whole time: what is above what was seen counts too, and so do lives too short to be seen.
    """

    def __init__(self) -> None:
        self._parents: dict[psutil.Process, psutil.Process | None] = {psutil.Process(): None}
        self._own: dict[psutil.Process, Seconds] = {}
        self._waited: dict[psutil.Process, Seconds] = {}
        self._alive: set[psutil.Process] = set()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Sample in a thread from now on, until this process ends."""
        threading.Thread(target=self._go_on, name="cpu", daemon=True).start()

    def _go_on(self) -> None:
        pause = threading.Event()
        me = os.getpid()
        while not pause.wait(EVERY) and os.getpid() == me:
            self.total()

    def total(self) -> Seconds:
        """Return the CPU seconds until now."""
        with self._lock:
            self._sample()
            told = {process: list(seconds) for process, seconds in self._waited.items()}
            for process, parent in self._parents.items():
                if process not in self._alive and parent is not None:
                    for i in range(2):
                        told[parent][i] -= self._own[process][i] + self._waited[process][i]
            user, system = (
                sum(seconds[i] for seconds in self._own.values())
                + sum(max(0.0, seconds[i]) for seconds in told.values())
                for i in range(2)
            )
        return Seconds(user, system)

    def _sample(self) -> None:
        found, parent_ids = {}, {}
        for process in psutil.process_iter():
            with suppress(psutil.Error), process.oneshot():
                parent_ids[process], found[process] = process.ppid(), process.cpu_times()
        by_id = {process.pid: process for process in found}
        parents = {process: by_id.get(id) for process, id in parent_ids.items()}
        while fresh := [p for p in found if p not in self._parents and parents[p] in self._parents]:
            self._parents |= {process: parents[process] for process in fresh}
        self._alive = found.keys() & self._parents.keys()
        for process in self._alive:
            times = found[process]
            self._own[process] = Seconds(times.user, times.system)
            self._waited[process] = Seconds(times.children_user, times.children_system)
