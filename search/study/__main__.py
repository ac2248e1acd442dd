"""The process that writes the view."""

from __future__ import annotations

import argparse
import fcntl
import os
import select
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import optuna

from search.record.ledger_store import StoreError
from search.study.beside import NOTE
from search.study.view import View
from spaces.errors import InputError
from spaces.redaction import parsable, redacted_text, remember_all

_PAUSE = 0.25  # seconds between two looks when there is nothing to write


def _told_to_end(seconds: float) -> bool:
    """Wait, and say whether the process that started this one has closed its end of the pipe (or is gone)."""
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(ready) and not os.read(sys.stdin.fileno(), 4096)


def main(arguments: Sequence[str] | None = None) -> None:
    """Follow a ledger, or write the study of a run that has ended."""
    parser = argparse.ArgumentParser(
        prog="python -m search.study",
        description="Follow a ledger, or write the study of a run that has ended.",
    )
    parser.add_argument("directory", type=Path, help="of the run")
    parser.add_argument(
        "--storage", help="database URL for the study; by default study.log in the run's directory"
    )
    parser.add_argument(
        "--storage_env", help="environment variable that holds the URL, which others cannot read"
    )
    parser.add_argument("--follow", action="store_true", help="go on until standard input is closed")
    options = parser.parse_args(arguments)
    if not (options.directory / "ledger.db").is_file():
        sys.exit(f"error: {options.directory}: no ledger here; expected the directory of a run")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    asked_to_hurry: list[int] = []
    if options.follow:
        os.nice(5)  # the search goes first
        signal.signal(signal.SIGTERM, lambda *_: asked_to_hurry.append(1))
    with (options.directory / ".study-owner").open("w") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)  # the view of a killed driver may still be writing
        try:
            _write(options.directory, _storage(options), options.follow, asked_to_hurry)
        except (LookupError, StoreError) as error:
            place = "" if isinstance(error, InputError) else f"{options.directory}: "
            sys.exit(redacted_text(f"error: {place}{error}"))
        except Exception as error:  # of databases and their drivers, whose messages may quote a URL
            print(redacted_text(traceback.format_exc()), file=sys.stderr)
            sys.exit(redacted_text(f"error: {type(error).__name__}: {' '.join(str(error).split())}"))


def _storage(options: argparse.Namespace) -> str | None:
    """The URL of the database, None where the study is a file of the run."""
    storage: str | None = options.storage
    if options.storage_env:
        storage = os.environ.get(options.storage_env)
        if not storage:
            sys.exit(f"error: --storage_env: the environment has no {options.storage_env!r}")
    if storage is not None:
        remember_all(storage)
        return parsable(storage)
    return None


def _write(directory: Path, storage: str | None, following: bool, asked_to_hurry: Sequence[int]) -> None:
    """Write the view until there is nothing more to write."""
    view = View(directory, storage)
    if view.note:
        print(f"{NOTE}{view.note}", file=sys.stderr, flush=True)
    while not asked_to_hurry:
        busy = view.step()
        if following:
            following = not _told_to_end(0 if busy else _PAUSE)
        elif not busy:
            break
    if told := view.finish():
        print(f"{NOTE}{told}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
