"""One process at a time owns a run directory."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import tempfile
import threading
from pathlib import Path
from types import TracebackType

from spaces.errors import InputError

BEAT = 10.0
"""Seconds between two signs of life of the owner."""
STALE = 6 * BEAT
"""Seconds after which an owner on another host that gave no sign of life is taken for dead."""


class RunLock:
    """A lock file with host and pid, held as long as the process lives; a killed owner leaves nothing to
    clean up.

    The kernel's lock on the file decides on one host. Between hosts, where file systems may not pass locks
    on, the owner touches the file every few seconds, so that a run can move to another host once its owner
    has been silent for a minute.

    Args:
        path: the lock file; its folder exists.

    Raises:
        InputError: on entering, where a live process owns the run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._released = threading.Event()

    def __enter__(self) -> RunLock:
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                self._claim(file)
                if self._is_there(file):
                    break
            except BaseException:
                os.close(file)
                raise
            os.close(file)  # its owner has removed it just before it was claimed
        self._file = file
        self._released.clear()
        threading.Thread(target=self._beat, args=(self._released,), daemon=True, name="run-lock").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Give the run free; nothing happens where it is not held."""
        if self._file is not None:
            self._released.set()
            os.ftruncate(self._file, 0)  # emptied, not removed: a removed file could be locked by two at once
            os.close(self._file)
            self._file = None

    def remove(self) -> None:
        """Give the run free and leave no file: nothing has begun. Whoever has just opened the file looks
        whether it is still there, see :meth:`__enter__`.
        """
        if self._file is not None:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self.release()

    def _is_there(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), os.stat(self.path))
        except OSError:
            return False

    def _claim(self, file: int) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{self.path.parent}: locked by {self._owner(file)}, which is alive; wait for it, stop it, "
                f"or use another name"
            ) from None
        owner = self._read(file)
        if owner and owner.get("host") != socket.gethostname() and (age := self._age()) < STALE:
            hint = f"if it is gone, wait {STALE:.0f} s or remove {self.path}"
            raise InputError(
                f"{self.path.parent}: locked by {self._owner(file)}, alive {age:.0f} s ago; {hint}"
            )
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode(), 0)

    def _owner(self, file: int) -> str:
        owner = self._read(file)
        return f"process {owner.get('pid')} on {owner.get('host')}" if owner else "another process"

    @staticmethod
    def _read(file: int) -> dict[str, object]:
        try:
            owner = json.loads(os.pread(file, 4096, 0) or b"{}")
        except ValueError:
            return {}
        return owner if isinstance(owner, dict) else {}

    def _age(self) -> float:
        """Seconds since the owner's last sign of life, by the clock of the file system, which is the owner's
        and ours alike.
        """
        with tempfile.NamedTemporaryFile(dir=self.path.parent, prefix=".clock-") as now:
            return os.fstat(now.fileno()).st_mtime - self.path.stat().st_mtime

    def _beat(self, released: threading.Event) -> None:
        while not released.wait(BEAT):
            try:
                os.utime(self.path)
            except OSError:  # the run directory was removed under us: the ledger will say so
                return
