"""The driver's side of the view: starting it, and letting it finish."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from spaces.files import create_private
from spaces.redaction import redacted_text, remember_all

STORAGE = "SECATEUR_STUDY_STORAGE"
"""Environment variable that tells the view's process the URL of its database."""
NOTE = "note: "
"""Begins what the view's process has to say where nothing went wrong."""


class StudyView:
    """Starts the view beside the driver, and lets it finish.

    It follows the ledger until :meth:`finish`, or until the driver is gone; either way it writes what is
    left, then ends. Whatever happens to it never reaches the search.

    Args:
        directory: of the run, with its ledger, which knows what the run is about
            (:class:`search.record.about.About`).
        storage: URL of a database for the study instead of ``study.log``.
    """

    def __init__(self, directory: str | Path, storage: str | None = None) -> None:
        self.directory = Path(directory)
        self._complaints = self.directory / "study.err"
        self._in_database = storage is not None
        words = [sys.executable, "-P", "-m", "search.study", str(self.directory), "--follow"]
        surroundings = dict(os.environ)
        if storage is not None:
            # a password in it is for nobody else: everybody can read the words of a command
            remember_all(storage)
            surroundings[STORAGE] = storage
            words += ["--storage_env", STORAGE]
        here = str(Path(__file__).resolve().parents[2])  # found from any folder, installed or not
        path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
        self._complaints.unlink(missing_ok=True)
        create_private(self._complaints)
        with self._complaints.open("wb") as complaints:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                env=surroundings | {"PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C is the driver's business
            )

    def finish(self, timeout: float = 20.0) -> str:
        """Let it write what is left, for at most `timeout` seconds; what is then left out is named in the
        study's note.

        Returns:
            An empty string, or one line that says what went wrong with it, without secrets, or what it shows
            where that is not every trial.
        """
        if self._process.stdin is not None:
            self._process.stdin.close()
        for patience, stop in ((timeout, self._process.terminate), (5.0, self._process.kill)):
            try:
                self._process.wait(patience)
                break
            except subprocess.TimeoutExpired:
                stop()
        code = self._process.wait()
        lines = (
            self._complaints.read_text(errors="replace").strip().splitlines()
            if self._complaints.is_file()
            else []
        )
        if code == 0 or code == -signal.SIGTERM:
            self._complaints.unlink(missing_ok=True)
            return "; ".join(line.removeprefix(NOTE) for line in lines if line.startswith(NOTE))
        reason = redacted_text(lines[-1]).removeprefix("error: ") if lines else f"exit code {code}"
        where = " --storage_env NAME, the variable that holds its URL," if self._in_database else ""
        return (
            f"the Optuna view ended early ({reason}); python -m search.study {self.directory}{where} writes "
            f"it again"
        )
