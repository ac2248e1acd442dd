"""The run's own study file: opened where it is whole, and set aside where it is damaged."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from spaces.errors import InputError
from spaces.files import create_private

Opened = TypeVar("Opened")


class DamagedStudyError(Exception):
    """A study is not what the ledger says."""


def open_journal(log: Path, use: Callable[[BaseStorage], Opened]) -> tuple[Opened, str]:
    """Open the study in a file, made if it does not exist. A damaged one is set aside, and a new one begun:
    all that it had is in the ledger.

    Args:
        log: the file.
        use: what is done with it; whatever it raises means that the file is damaged, but for what the user
            has to mend.

    Returns:
        What `use` gives, and a line that says what was done; empty where the file was whole.
    """
    try:
        return use(_journal(log)), ""
    except (InputError, OSError):
        raise
    except Exception as error:  # whatever is in the file, optuna does with it what it says
        if not log.exists():
            raise
        aside = _aside(log)
        os.replace(log, aside)
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        told = f"{log}: damaged ({reason}); written again from the ledger, the damaged one is {aside.name}"
        return use(_journal(log)), told


def _journal(log: Path) -> BaseStorage:
    create_private(log)
    return JournalStorage(JournalFileBackend(str(_sound(log))))


def _aside(log: Path) -> Path:
    """A name beside the file that is free."""
    number = 1
    while (aside := log.with_name(f"{log.name}.damaged-{number}")).exists():
        number += 1
    return aside


def _sound(log: Path) -> Path:
    """Clear away what a killed view left: half a line at the end of the journal, and the journal's lock."""
    with log.open("rb+") as file:
        content_end = file.seek(0, os.SEEK_END)
        while content_end:
            start = max(0, content_end - 65536)
            file.seek(start)
            newline = file.read(content_end - start).rfind(b"\n")
            if newline >= 0:
                content_end = start + newline + 1
                break
            content_end = start
        file.truncate(content_end)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{log}.lock")
    return log
