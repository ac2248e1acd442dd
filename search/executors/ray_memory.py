"""How much memory a worker has come to hold."""

from __future__ import annotations

import ctypes
import gc
import os

_PAGE = os.sysconf("SC_PAGE_SIZE")
_MIB = 2**20


class Memory:
    """Of this process, beyond what it held the first time that it was asked: a worker keeps what its first
    batch has loaded and allocated, and that is no leak.
    """

    def __init__(self) -> None:
        self._first: float | None = None

    def grown(self, limit: float) -> float:
        """Return the growth in MiB. Where it is above the limit, what is merely not given back yet is given
        back first; 0 where the system does not tell.
        """
        now = own_mib()
        if now is None:
            return 0.0
        if self._first is None:
            self._first = now
        if now - self._first > limit:
            gc.collect()
            _trim()
            now = own_mib() or now
        return now - self._first


def own_mib() -> float | None:
    """Return the resident memory of this process in MiB, without what it shares, such as Ray's object store;
    None where the system does not tell.
    """
    try:
        with open("/proc/self/statm") as file:
            _, resident, shared, *_ = map(int, file.read().split())
    except OSError:
        return None
    return (resident - shared) * _PAGE / _MIB


def _trim() -> None:
    """Give free memory back to the system, where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
