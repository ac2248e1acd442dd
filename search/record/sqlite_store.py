"""The ledger of a run in one SQLite file: all of its SQL. No torch."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from search.record.ledger_store import CandidateRow, EvaluationRow, StoreError, StoreFault

FORMAT = 1
_APPLICATION = 0x53454341  # "SECA": tells a ledger from any other SQLite file
_PAGE = 500  # rows read at once, so that no read transaction stays open while a caller works
_MANY = 4000  # rows of figures read at once
_SCHEMA = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE candidates (
    id INTEGER PRIMARY KEY, genome BLOB NOT NULL, parents TEXT NOT NULL, operator TEXT NOT NULL,
    seed INTEGER NOT NULL);
CREATE TABLE evaluations (
    seq INTEGER PRIMARY KEY, id INTEGER NOT NULL UNIQUE, state TEXT NOT NULL, metrics TEXT NOT NULL,
    reason TEXT NOT NULL,
    seconds REAL NOT NULL, worker TEXT NOT NULL, attempts INTEGER NOT NULL, at REAL NOT NULL);
CREATE TABLE reports (
    id INTEGER, position INTEGER, step INTEGER NOT NULL, metrics TEXT NOT NULL, PRIMARY KEY (id,
    position)) WITHOUT ROWID;
-- `owner` has no type on purpose: a candidate's id (an integer) or a name (a text) without a clash
CREATE TABLE arrays (owner, name TEXT, dtype TEXT NOT NULL, shape TEXT NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (owner, name));
CREATE TABLE notes (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID
"""
# What came after the first version stands in notes, so that older versions read the file as well: the seed of
# an evaluation where it is not the candidate's, and the cause where the state is not complete.
_SEED, _CAUSE = "seed/", "cause/"
_LAST = "seq"  # the highest number of an evaluation that was removed
_HIGHEST = (
    "(SELECT max(coalesce((SELECT max(seq) FROM evaluations), 0),"
    f" coalesce((SELECT CAST(value AS INTEGER) FROM notes WHERE key = '{_LAST}'), 0)))"
)
_EVALUATION = (
    "SELECT e.seq, c.id, c.genome, c.parents, c.operator,"
    f" coalesce((SELECT value FROM notes WHERE key = '{_SEED}' || c.id), c.seed),"
    " e.state, e.metrics, e.reason, e.seconds, e.worker, e.attempts, e.at,"
    f" (SELECT value FROM notes WHERE key = '{_CAUSE}' || c.id)"
    " FROM evaluations e JOIN candidates c ON c.id = e.id"
)
_CANNOT_WRITE = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
)


class SQLiteStore:
    """A :class:`~search.record.ledger_store.LedgerStore` in one SQLite file (WAL, one transaction a
    :meth:`commit`).

    Nothing in it is pickled: metrics are JSON, arrays are raw bytes beside their dtype and shape.

    Args:
        path: the file, made if it does not exist; None keeps the run in memory.
        description: of the space, kept as ``about("space")`` of a new file.

    Raises:
        StoreError: the file is damaged, no ledger, of another version, in use, or cannot be written.
    """

    def __init__(self, path: Path | None, description: Mapping[str, Any]) -> None:
        try:
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=30)
        except sqlite3.Error as error:
            raise _fault(error) from None
        try:
            new = not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if not new:  # what is not ours is left as it was found
                self._check()
                if (damage := self._db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                    raise sqlite3.DatabaseError(damage.splitlines()[-1])
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            if new:
                self._create(description)
        except (sqlite3.Error, StoreError) as error:
            self._db.close()
            raise _fault(error) from None

    @classmethod
    def reader(cls, path: Path) -> SQLiteStore:
        """Open a file to read it, from any process, while the run goes on or after it.

        Raises:
            StoreError: there is no such file, or it is damaged, no ledger or of another version.
        """
        if not path.is_file():
            raise StoreError(StoreFault.MISSING, "no ledger here")
        place, store = path.resolve().as_uri(), cls.__new__(cls)
        try:
            try:
                store._connect(f"{place}?mode=ro")
            except (
                sqlite3.OperationalError
            ):  # a directory that may only be read has no room for the WAL index
                store._connect(f"{place}?immutable=1")
        except (sqlite3.Error, StoreError) as error:
            raise _fault(error) from None
        return store

    def about(self, key: str) -> Any:
        return self._value("SELECT value FROM about WHERE key = ?", key)

    def set_about(self, key: str, value: Any) -> None:
        self._write("INSERT OR REPLACE INTO about VALUES (?, ?)", (key, json.dumps(value)))

    def add_candidates(self, rows: Iterable[CandidateRow]) -> None:
        self._write(
            "INSERT INTO candidates VALUES (?, ?, ?, ?, ?)",
            *((row.id, row.genome, json.dumps(row.parents), row.operator, row.seed) for row in rows),
        )

    def candidates(self, start: int = 0) -> Iterator[CandidateRow]:
        while rows := self._db.execute(
            "SELECT id, genome, parents, operator, seed FROM candidates WHERE id >= ? ORDER BY id LIMIT ?",
            (start, _PAGE),
        ).fetchall():
            for row, parents in zip(rows, _json(row[2] for row in rows), strict=True):
                yield _candidate(row, parents)
            start = rows[-1][0] + 1

    def add_report(self, id: int, step: int, metrics: Mapping[str, float]) -> None:
        self._write(
            "INSERT INTO reports VALUES (?1, (SELECT coalesce(max(position) + 1, 0) FROM reports WHERE id = "
            "?1), ?2, ?3)",
            (id, step, json.dumps(metrics)),
        )

    def drop_reports(self, id: int) -> None:
        self._write("DELETE FROM reports WHERE id = ?", (id,))

    def reports(self, id: int) -> list[tuple[int, dict[str, float]]]:
        rows = self._db.execute("SELECT step, metrics FROM reports WHERE id = ? ORDER BY position", (id,))
        return [(step, json.loads(metrics)) for step, metrics in rows]

    def add_evaluation(self, row: EvaluationRow) -> int:
        id, seed = row.candidate.id, row.candidate.seed
        seq = self._write(
            f"INSERT INTO evaluations VALUES ({_HIGHEST} + 1, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                id,
                row.state,
                json.dumps(row.metrics),
                row.reason,
                row.seconds,
                row.worker,
                row.attempts,
                row.at or time.time(),
            ),
        )
        self._write(
            f"INSERT OR REPLACE INTO notes SELECT '{_SEED}' || id, ? FROM candidates"
            " WHERE id = ? AND seed <> ?",
            (str(seed), id, seed),
        )
        if row.has_cause and row.state != "complete":
            self.save_note(f"{_CAUSE}{id}", row.cause)
        return seq

    def evaluation(self, id: int) -> EvaluationRow | None:
        row = self._db.execute(f"{_EVALUATION} WHERE e.id = ?", (id,)).fetchone()
        return None if row is None else _evaluation(row, json.loads(row[3]), json.loads(row[7]))

    def evaluations(self, after_seq: int = 0) -> Iterator[EvaluationRow]:
        while rows := self._db.execute(
            f"{_EVALUATION} WHERE e.seq > ? ORDER BY e.seq LIMIT ?", (after_seq, _PAGE)
        ).fetchall():
            decoded = zip(rows, _json(row[3] for row in rows), _json(row[7] for row in rows), strict=True)
            for row, parents, metrics in decoded:
                yield _evaluation(row, parents, metrics)
            after_seq = rows[-1][0]

    def figures(self) -> Iterator[list[tuple[int, dict[str, float]]]]:
        after_seq = 0
        while rows := self._db.execute(
            "SELECT seq, id, metrics FROM evaluations WHERE seq > ? AND state = 'complete'"
            " ORDER BY seq LIMIT ?",
            (after_seq, _MANY),
        ).fetchall():
            yield [*zip((row[1] for row in rows), _json(row[2] for row in rows), strict=True)]
            after_seq = rows[-1][0]

    def remove_evaluation(self, id: int) -> None:
        self.save_note(_LAST, self.last_seq)
        for table, key in (("evaluations", "id"), ("reports", "id"), ("arrays", "owner")):
            self._write(f"DELETE FROM {table} WHERE {key} = ?", (id,))
        self._write("DELETE FROM notes WHERE key IN (?, ?)", (f"{_SEED}{id}", f"{_CAUSE}{id}"))

    def renumber(self, id: int) -> None:
        self._write(f"UPDATE evaluations SET seq = {_HIGHEST} + 1 WHERE id = ?", (id,))

    def remove_candidate(self, id: int) -> None:
        self.remove_evaluation(id)
        self._write("DELETE FROM candidates WHERE id = ?", (id,))

    @property
    def last_seq(self) -> int:
        return self._db.execute(f"SELECT {_HIGHEST}").fetchone()[0]

    def counts(self) -> dict[str, int]:
        states = dict(self._db.execute("SELECT state, count(*) FROM evaluations GROUP BY state"))
        return {"candidates": self._db.execute("SELECT count(*) FROM candidates").fetchone()[0]} | states

    def evaluated_by(self, worker: str) -> int:
        return self._db.execute("SELECT count(*) FROM evaluations WHERE worker = ?", (worker,)).fetchone()[0]

    def save_arrays(self, owner: int | str, arrays: Mapping[str, np.ndarray]) -> None:
        self._write("DELETE FROM arrays WHERE owner = ?", (owner,))
        self._write(
            "INSERT INTO arrays VALUES (?, ?, ?, ?, ?)",
            *(
                (owner, name, array.dtype.str, json.dumps(array.shape), array.tobytes())
                for name, array in arrays.items()
            ),
        )

    def load_arrays(self, owner: int | str) -> dict[str, np.ndarray]:
        rows = self._db.execute(
            "SELECT name, dtype, shape, data FROM arrays WHERE owner = ? ORDER BY rowid", (owner,)
        )
        return {
            name: np.frombuffer(data, dtype, math.prod(size := json.loads(shape))).reshape(size).copy()
            for name, dtype, shape, data in rows
        }

    def array_names(self, prefix: str) -> list[str]:
        rows = self._db.execute(
            "SELECT DISTINCT owner FROM arrays WHERE typeof(owner) = 'text' AND substr(owner, 1, ?) = ?",
            (len(prefix), prefix),
        )
        return [owner for (owner,) in rows]

    def save_note(self, key: str, value: Any) -> None:
        self._write("INSERT OR REPLACE INTO notes VALUES (?, ?)", (key, json.dumps(value)))

    def note(self, key: str) -> Any:
        return self._value("SELECT value FROM notes WHERE key = ?", key)

    def notes(self, prefix: str) -> dict[str, Any]:
        rows = self._db.execute(
            "SELECT key, value FROM notes WHERE key >= ?1 AND substr(key, 1, ?2) = ?1", (prefix, len(prefix))
        )
        return {key[len(prefix) :]: json.loads(value) for key, value in rows}

    def commit(self) -> None:
        if self._db.in_transaction:
            try:
                self._db.execute("COMMIT")
            except sqlite3.OperationalError as error:
                raise self._failure(error) from None

    def rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def copy(self, path: Path) -> None:
        part = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(part)) as other:
                self._db.backup(other)
                other.execute("PRAGMA journal_mode = DELETE")  # one file, which a reader can take as it is
            part.chmod(0o644)
            os.replace(part, path)
        except sqlite3.OperationalError as error:
            raise self._failure(error) from None
        finally:
            part.unlink(missing_ok=True)

    def close(self) -> None:
        self.commit()
        self._db.close()

    def _connect(self, uri: str) -> None:
        self._db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30)
        try:
            self._check()
        except (sqlite3.Error, StoreError):
            self._db.close()
            raise

    def _check(self) -> None:
        """See that the file is a ledger of this format."""
        if self._db.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
            raise sqlite3.DatabaseError("it is not a ledger")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version != FORMAT:
            raise StoreError(
                StoreFault.FORMAT,
                f"written by another version of Secateur (format {version}); this one reads format {FORMAT}",
            )

    def _create(self, description: Mapping[str, Any]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            self._db.execute(statement)
        self._db.execute(f"PRAGMA application_id = {_APPLICATION}")
        self._db.execute(f"PRAGMA user_version = {FORMAT}")
        self._db.execute("INSERT INTO about VALUES ('space', ?)", (json.dumps(description),))
        self._db.execute("COMMIT")

    def _write(self, statement: str, *rows: Sequence[Any]) -> int:
        """Execute a statement for every row inside the open transaction; return the key of the row where it
        was one.
        """
        try:
            if not self._db.in_transaction:
                self._db.execute("BEGIN IMMEDIATE")
            cursor = (
                self._db.execute(statement, rows[0])
                if len(rows) == 1
                else self._db.executemany(statement, rows)
            )
            return cursor.lastrowid or 0
        except sqlite3.OperationalError as error:
            raise self._failure(error) from None

    def _failure(self, error: sqlite3.OperationalError) -> Exception:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return error
        self.rollback()  # SQLite may have done so already
        return StoreError(StoreFault.FULL, str(error))

    def _value(self, statement: str, key: str) -> Any:
        row = self._db.execute(statement, (key,)).fetchone()
        return None if row is None else json.loads(row[0])


def _fault(error: sqlite3.Error | StoreError) -> StoreError:
    """Say why a file cannot be opened."""
    if isinstance(error, StoreError):
        return error
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF  # ours have none
    if code in _CANNOT_WRITE:
        return StoreError(StoreFault.UNWRITABLE, str(error))
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(StoreFault.BUSY, str(error))
    return StoreError(StoreFault.DAMAGED, str(error))


def _json(texts: Iterable[str]) -> list[Any]:
    """Return what many texts say; as one text they are read several times as fast."""
    return json.loads(f"[{','.join(texts)}]")


def _candidate(row: Sequence[Any], parents: list[int]) -> CandidateRow:
    id, genome, _, operator, seed = row
    return CandidateRow(id, genome, tuple(parents), operator, int(seed))


def _evaluation(row: Sequence[Any], parents: list[int], metrics: dict[str, float]) -> EvaluationRow:
    state, _, reason, seconds, worker, attempts, at, cause = row[6:]
    return EvaluationRow(
        _candidate(row[1:6], parents),
        state,
        metrics,
        reason,
        seconds,
        worker,
        attempts,
        None if cause is None else json.loads(cause),
        at,
        row[0],
        cause is not None,
    )
