"""Where the Optuna view of a run is written, and how its database's URL is given without showing it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spaces.errors import InputError, require
from spaces.redaction import MARK, left_out, parsable, remember_all, remember_variable

WAYS = (
    "give it once more as --study.storage_env NAME (a variable that holds the URL) or --study.storage_file "
    "PATH (a file that only you can read)"
)
EXPOSED = (
    "warning: the command line holds a secret, which everybody on this machine can read while it runs (ps), "
    "and the shell keeps; a database's URL is better given as --study.storage_env NAME or "
    "--study.storage_file PATH, other secrets in the configuration's file"
)


@dataclass(frozen=True)
class StudySettings:
    """The Optuna view of the run.

    Args:
        view: whether one is written.
        storage: URL of a PostgreSQL or MySQL database; null: the file study.log of the run. A password in it
            is never written, so who resumes the run gives it again.
        storage_env: name of an environment variable that holds the URL; the configuration keeps the name.
        storage_file: file whose first line is the URL; only you should be able to read it.
    """

    view: bool = True
    storage: str | None = None
    storage_env: str | None = None
    storage_file: str | None = None

    @property
    def is_in_database(self) -> bool:
        """Whether the view is written elsewhere than into the run's own file."""
        return any((self.storage, self.storage_env, self.storage_file))

    def url(self, folders: Sequence[Path] = ()) -> str | None:
        """Return the URL of the database, None where the view is the run's own file.

        Args:
            folders: where a relative `storage_file` is looked for.

        Raises:
            InputError: it is given twice, or is not where it should be; or its password was left out.
        """
        written = None if left_out(self.storage) is not None else self.storage
        given = {
            name: value
            for name, value in (
                ("storage", written),
                ("storage_env", self.storage_env),
                ("storage_file", self.storage_file),
            )
            if value
        }
        require("study", (len(given) < 2, f"{' and '.join(given)} are given; expected one of them"))
        if self.storage and not given:
            raise InputError(
                f"study.storage: {self.storage} has {MARK} in the place of its password, which is never "
                f"written; {WAYS}"
            )
        found = written
        if self.storage_env:
            found = _of_variable(self.storage_env)
        elif self.storage_file:
            found = _of_file(self.storage_file, folders)
        if not found:
            return None
        remember_all(found)
        return parsable(found)


def find(path: str, folders: Sequence[Path]) -> Path | None:
    """Return the file of a path that is relative to one of some folders, None where there is none."""
    places = [Path(path), *(folder / path for folder in folders)]
    return next((place for place in places if place.is_file()), None)


def _of_variable(name: str) -> str:
    expected = "expected the name of a variable that holds the database's URL"
    require("study.storage_env", (re.fullmatch(r"[A-Za-z_]\w*", name), f"{name!r} is no name; {expected}"))
    found = os.environ.get(name, "").strip()
    require("study.storage_env", (found, f"the environment has no {name}; {expected}"))
    remember_variable(name)
    return found


def _of_file(path: str, folders: Sequence[Path]) -> str:
    expected = "expected a file whose first line is the database's URL"
    file = find(path, folders)
    if file is None:
        raise InputError(f"study.storage_file: {path!r} is no file; {expected}")
    try:
        lines = file.read_text().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"study.storage_file: {path!r} cannot be read ({error}); {expected}") from None
    require("study.storage_file", (lines[0].strip(), f"{path!r} is empty; {expected}"))
    return lines[0].strip()


def readable_by_others(path: Path) -> bool:
    """Whether somebody else than its owner can read a file."""
    return bool(path.stat().st_mode & 0o044)
