"""The driver's side of the view: starting it, and letting it finish."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path


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
        words = [sys.executable, "-P", "-m", "search.study", str(self.directory), "--follow"]
        here = str(Path(__file__).resolve().parents[2])  # found from any folder, installed or not
        path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
        with self._complaints.open("wb") as complaints:
            self._process = subprocess.Popen(
                words + (["--storage", storage] if storage else []),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,  # one line at the end, or none
                stderr=complaints,
                env=os.environ | {"PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C is the driver's business
            )

    def finish(self, timeout: float = 20.0) -> str:
        """Let it write what is left, for at most `timeout` seconds; what is then left out is named in the
        study's note.

        Returns:
            An empty string, or one line that says what went wrong with it, or which trials it shows where
            that is not all of them.
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
        told = b"" if self._process.stdout is None else self._process.stdout.read()
        if code == 0 or code == -signal.SIGTERM:
            self._complaints.unlink(missing_ok=True)
            return told.decode(errors="replace").strip()
        reason = lines[-1] if lines else f"exit code {code}"
        return (
            f"the Optuna view ended early ({reason}); python -m search.study {self.directory} writes it again"
        )
