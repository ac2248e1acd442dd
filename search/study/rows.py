"""What the view reads of a ledger, by SQL of its own: the ledger's class would bring torch along."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_ROWS = (
    "SELECT e.seq, e.id, c.genome, c.parents, c.operator, e.state, e.metrics, e.reason, e.seconds, "
    "e.worker, e.at"
    " FROM evaluations e JOIN candidates c ON c.id = e.id WHERE e.seq"
)


class Rows:
    """What the view reads of a ledger: rows of evaluations, and notes."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=30
        )
        self._db.row_factory = sqlite3.Row
        space = json.loads(self._db.execute("SELECT value FROM about WHERE key = 'space'").fetchone()[0])
        self.segments: list[tuple[str, int, int]] = [tuple(segment) for segment in space["segments"]]
        self._length = sum(size for _, size, _ in self.segments)
        self._bits = all(choices == 2 for _, _, choices in self.segments)

    def note(self, key: str) -> Any:
        row = self._db.execute("SELECT value FROM notes WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def notes(self, prefix: str) -> dict[str, Any]:
        """Notes whose key begins with `prefix`, by the rest of the key."""
        rows = self._db.execute(
            "SELECT key, value FROM notes WHERE substr(key, 1, ?) = ?", (len(prefix), prefix)
        )
        return {key[len(prefix) :]: json.loads(value) for key, value in rows}

    def last(self) -> int:
        return self._db.execute("SELECT coalesce(max(seq), 0) FROM evaluations").fetchone()[0]

    def outcomes(self, after: int) -> Iterator[tuple[int, str, dict[str, float]]]:
        """Number, state and metrics of what arrived after number `after`: enough to know the front."""
        for seq, state, metrics in self._db.execute(
            "SELECT seq, state, metrics FROM evaluations WHERE seq > ? ORDER BY seq", (after,)
        ).fetchall():
            yield seq, state, json.loads(metrics)

    def after(self, seq: int, limit: int) -> list[sqlite3.Row]:
        return self._db.execute(f"{_ROWS} > ? ORDER BY e.seq LIMIT ?", (seq, limit)).fetchall()

    def exactly(self, seqs: Sequence[int]) -> list[sqlite3.Row]:
        return [self._db.execute(f"{_ROWS} = ?", (seq,)).fetchone() for seq in seqs]

    def reports(self, id: int) -> list[tuple[int, dict[str, float]]]:
        rows = self._db.execute("SELECT step, metrics FROM reports WHERE id = ? ORDER BY position", (id,))
        return [(step, json.loads(metrics)) for step, metrics in rows]

    def genome(self, packed: bytes) -> np.ndarray:
        raw = np.frombuffer(packed, dtype=np.uint8)
        return np.unpackbits(raw, count=self._length) if self._bits else raw
