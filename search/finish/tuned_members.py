"""Members of the front between their tuning and their export: notes in the ledger, weights in files."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.base import Evaluation, State
from search.record.ledger import Ledger
from spaces.files import replacing

_NOTE = "tuned/"
"""Begins the names of notes in the ledger, followed by the candidate."""
_OURS = re.compile(r"[0-9a-f]{64}|\.[0-9a-f]{64}-.*")  # weights, and what a kill left of writing them


class TunedMembers:
    """Keeps what the tuning of a member gave until the member is exported, so that nothing is tuned twice.

    The weights lie in files whose names are the SHA-256 of what they hold, not in the ledger: databases
    refuse large values. A file is deleted once no note of the ledger names it, after the ledger has been
    committed. Older versions kept the weights as an array in the ledger, which is still read.

    Args:
        ledger: of the run.
        folder: of the files; made when it is needed. No other run uses it.
    """

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self.ledger, self.folder = ledger, folder

    def keep(self, evaluation: Evaluation, settings: str) -> None:
        """Keep what came of tuning a member, and commit.

        Args:
            evaluation: its arrays hold the ``weights``, uint8 ``(bytes,)``, unless it failed.
            settings: of the tuning.
        """
        failed = evaluation.state is not State.COMPLETE
        note = {
            "settings": settings,
            "metrics": evaluation.metrics,
            "reason": (evaluation.reason or evaluation.state.value) if failed else "",
            "weights": "" if failed else self._write(evaluation.arrays["weights"]),
        }
        self.ledger.save_note(f"{_NOTE}{evaluation.candidate.id}", note)
        self.ledger.commit()

    def holds(self, id: int, settings: str) -> bool:
        """Return whether a member was tuned with these settings, and its weights are there and whole."""
        note = self.ledger.note(f"{_NOTE}{id}")
        if note is None or note["settings"] != settings:
            return False
        return bool(note["reason"]) or self._weights(id, note) is not None

    def read(self, id: int) -> tuple[dict[str, Any], np.ndarray | None]:
        """Return the note of a member (``metrics`` and ``reason``), and its weights; None where it failed.

        Raises:
            FileNotFoundError: the weights have gone since :meth:`holds` said that they are there.
        """
        note = self.ledger.note(f"{_NOTE}{id}")
        if note["reason"]:
            return note, None
        weights = self._weights(id, note)
        if weights is None:
            raise FileNotFoundError(f"{self.folder}: the weights of candidate {id} have gone")
        return note, weights

    def waiting(self) -> dict[int, str]:
        """Return the members that are tuned and wait for their export, whole ones and such as have failed,
        with the settings of their tuning.
        """
        notes = {int(id): note for id, note in self.ledger.notes(_NOTE).items() if note}
        return {id: note["settings"] for id, note in notes.items() if self.holds(id, note["settings"])}

    def forget(self, id: int) -> None:
        """Let go of a member whose weights are in their exported file by now, and commit."""
        self.ledger.save_arrays(f"{_NOTE}{id}", {})  # where an older version kept them
        self.ledger.save_note(f"{_NOTE}{id}", None)
        self.ledger.commit()
        self.sweep()

    def sweep(self) -> None:
        """Delete the files that no note names; other files are left alone."""
        if not self.folder.is_dir():
            return
        named = {note.get("weights") for note in self.ledger.notes(_NOTE).values() if note}
        for file in self.folder.iterdir():
            if _OURS.fullmatch(file.name) and file.name not in named:
                file.unlink(missing_ok=True)

    def _write(self, weights: np.ndarray) -> str:
        content = np.ascontiguousarray(weights).data
        name = hashlib.sha256(content).hexdigest()
        with replacing(self.folder / name, durable=True) as part:
            part.write_bytes(content)
        return name

    def _weights(self, id: int, note: dict[str, Any]) -> np.ndarray | None:
        name = note.get("weights")
        if not name:
            return (self.ledger.load_arrays(f"{_NOTE}{id}") or {}).get("weights")
        try:
            content = (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None
        return np.frombuffer(content, np.uint8) if hashlib.sha256(content).hexdigest() == name else None
