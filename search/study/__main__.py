"""The process that writes the view."""

from __future__ import annotations

import argparse
import fcntl
import os
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import optuna

from search.record.ledger_store import StoreError
from search.study.view import View

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
            view = View(options.directory, options.storage)
        except (LookupError, StoreError) as error:
            sys.exit(f"error: {options.directory}: {error}")
        following = options.follow
        while not asked_to_hurry:
            busy = view.step()
            if following:
                following = not _told_to_end(0 if busy else _PAUSE)
            elif not busy:
                break
        if told := view.finish():
            print(told, flush=True)


if __name__ == "__main__":
    main()
