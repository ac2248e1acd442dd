"""The ledger of a run in one SQLite file: all of its SQL. No torch."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from search.record.ledger_store import (
    CandidateRow,
    DamagedRowError,
    EvaluationRow,
    StoreError,
    StoreFault,
)
from search.record.row_sums import RowSums
from spaces.files import create_private

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
_UNREAD: Any = object()  # in place of what has not been decoded yet
_STATES = ("complete", "failed", "pruned")
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_CANNOT_WRITE = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
)
_BEGINNING = 1.0
"""Seconds that a reader gives a run between making its file and what stands in it."""


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
        self._place = str(path or "ledger in memory")
        try:
            if path is not None and path.parent.is_dir() and not path.exists():
                create_private(path)  # it holds what the objects of a run were made with
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=30)
        except sqlite3.Error as error:
            raise _fault(error) from None
        except OSError as error:
            raise StoreError(StoreFault.UNWRITABLE, error.strerror or str(error)) from None
        try:
            new = not self._has_tables()
            if not new:  # what is not ours is left as it was found
                self._check()
                if (damage := self._db.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
                    raise sqlite3.DatabaseError(damage.splitlines()[-1])
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._sums = RowSums(self._db)
            if new:
                self._create(description)
            elif missing := self._sums.orphan():
                raise sqlite3.DatabaseError(f"{missing}, is missing")
        except (sqlite3.Error, StoreError, UnicodeDecodeError) as error:
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
        store._place = str(path)
        try:
            try:
                store._connect(f"{place}?mode=ro")
            except (
                sqlite3.OperationalError
            ):  # a directory that may only be read has no room for the WAL index
                store._connect(f"{place}?immutable=1")
            store._sums = RowSums(store._db)
        except (sqlite3.Error, StoreError, UnicodeDecodeError) as error:
            raise _fault(error) from None
        return store

    def about(self, key: str) -> Any:
        return self._value("about", key)

    def set_about(self, key: str, value: Any) -> None:
        self._write("INSERT OR REPLACE INTO about VALUES (?, ?)", (key, json.dumps(value)))
        self._seal("about", "key = ?", (key,))

    def add_candidates(self, rows: Iterable[CandidateRow]) -> None:
        given = [(row.id, row.genome, json.dumps(row.parents), row.operator, row.seed) for row in rows]
        self._write("INSERT INTO candidates VALUES (?, ?, ?, ?, ?)", *given)
        self._seal("candidates", "id = ?", *((row[0],) for row in given))

    def candidates(self, start: int = 0) -> Iterator[CandidateRow]:
        columns = f"id, genome, parents, operator, seed, {self._sums.sound('candidates')}"
        statement = f"SELECT {columns} FROM candidates WHERE id >= ? ORDER BY id LIMIT ?"
        while rows := self._page(statement, start, "candidates"):
            for row, parents in zip(rows, _decoded(rows, 2), strict=True):
                yield self._candidate(row, parents)
            start = rows[-1][0] + 1

    def add_report(self, id: int, step: int, metrics: Mapping[str, float]) -> None:
        self._write(
            "INSERT INTO reports VALUES (?1, (SELECT coalesce(max(position) + 1, 0) FROM reports WHERE id = "
            "?1), ?2, ?3)",
            (id, step, json.dumps(metrics)),
        )
        self._seal("reports", "id = ? ORDER BY position DESC LIMIT 1", (id,))

    def drop_reports(self, id: int) -> None:
        self._write("DELETE FROM reports WHERE id = ?", (id,))

    def reports(self, id: int) -> list[tuple[int, dict[str, float]]]:
        statement = f"SELECT step, metrics, {self._sums.sound('reports')} FROM reports WHERE id = ?"
        rows = self._rows(f"{statement} ORDER BY position", (id,), f"reports of candidate {id}")
        found = []
        for step, metrics, sound in rows:
            with self._reading(f"reports, of candidate {id}, step {step}", sound):
                found.append((int(step), _metrics(metrics)))
        return found

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
        self._seal("evaluations", "id = ?", (id,))
        self._write(
            f"INSERT OR REPLACE INTO notes SELECT '{_SEED}' || id, ? FROM candidates"
            " WHERE id = ? AND seed <> ?",
            (str(seed), id, seed),
        )
        self._seal("notes", "key = ?", (f"{_SEED}{id}",))
        if row.has_cause and row.state != "complete":
            self.save_note(f"{_CAUSE}{id}", row.cause)
        return seq

    def evaluation(self, id: int) -> EvaluationRow | None:
        rows = self._rows(f"{self._evaluated} WHERE e.id = ?", (id,), f"evaluation of candidate {id}")
        return self._evaluation(rows[0]) if rows else None

    def evaluations(self, after_seq: int = 0) -> Iterator[EvaluationRow]:
        statement = f"{self._evaluated} WHERE e.seq > ? ORDER BY e.seq LIMIT ?"
        while rows := self._page(statement, after_seq, "evaluations"):
            for row, parents, metrics in zip(rows, _decoded(rows, 3), _decoded(rows, 8), strict=True):
                yield self._evaluation(row, parents, metrics)
            after_seq = rows[-1][0]

    def figures(self) -> Iterator[list[tuple[int, dict[str, float]]]]:
        statement = (
            f"SELECT seq, id, metrics, {self._sums.sound('evaluations')} FROM evaluations"
            " WHERE seq > ? AND state = 'complete' ORDER BY seq LIMIT ?"
        )
        after_seq = 0
        while rows := self._rows(statement, (after_seq, _MANY), "evaluations"):
            page = []
            for (seq, id, text, sound), metrics in zip(rows, _decoded(rows, 2), strict=True):
                with self._reading(f"evaluations, row {seq}, of candidate {id}", sound):
                    page.append((id, _metrics(text, metrics)))
            yield page
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
        return self._rows(f"SELECT {_HIGHEST}", (), "evaluations")[0][0]

    def counts(self) -> dict[str, int]:
        states = self._rows("SELECT state, count(*) FROM evaluations GROUP BY state", (), "evaluations")
        candidates = self._rows("SELECT count(*) FROM candidates", (), "candidates")[0][0]
        return {"candidates": candidates} | dict(states)

    def evaluated_by(self, worker: str) -> int:
        statement = "SELECT count(*) FROM evaluations WHERE worker = ?"
        return self._rows(statement, (worker,), "evaluations")[0][0]

    def save_arrays(self, owner: int | str, arrays: Mapping[str, np.ndarray]) -> None:
        self._write("DELETE FROM arrays WHERE owner = ?", (owner,))
        self._write(
            "INSERT INTO arrays VALUES (?, ?, ?, ?, ?)",
            *(
                (owner, name, array.dtype.str, json.dumps(array.shape), array.tobytes())
                for name, array in arrays.items()
            ),
        )
        self._seal("arrays", "owner = ?", (owner,))

    def load_arrays(self, owner: int | str) -> dict[str, np.ndarray]:
        columns = f"name, dtype, shape, data, {self._sums.sound('arrays')}"
        statement = f"SELECT {columns} FROM arrays WHERE owner = ? ORDER BY rowid"
        found = {}
        for name, dtype, shape, data, sound in self._rows(statement, (owner,), f"arrays of {owner}"):
            with self._reading(f"arrays, {name} of {owner}", sound):
                size = json.loads(shape)
                found[name] = np.frombuffer(data, dtype, math.prod(size)).reshape(size).copy()
        return found

    def array_names(self, prefix: str) -> list[str]:
        rows = self._rows(
            "SELECT DISTINCT owner FROM arrays WHERE typeof(owner) = 'text' AND substr(owner, 1, ?) = ?",
            (len(prefix), prefix),
            "arrays",
        )
        return [owner for (owner,) in rows]

    def save_note(self, key: str, value: Any) -> None:
        self._write("INSERT OR REPLACE INTO notes VALUES (?, ?)", (key, json.dumps(value)))
        self._seal("notes", "key = ?", (key,))

    def note(self, key: str) -> Any:
        return self._value("notes", key)

    def notes(self, prefix: str) -> dict[str, Any]:
        rows = self._rows(
            f"SELECT key, value, {self._sums.sound('notes')} FROM notes"
            " WHERE key >= ?1 AND substr(key, 1, ?2) = ?1",
            (prefix, len(prefix)),
            f"notes {prefix}",
        )
        found = {}
        for key, value, sound in rows:
            with self._reading(f"notes, row {key!r}", sound):
                found[key[len(prefix) :]] = json.loads(value)
        return found

    def commit(self) -> None:
        if self._db.in_transaction:
            try:
                self._db.execute("COMMIT")
            except sqlite3.OperationalError as error:
                raise self._failure(error) from None

    def rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
            self._sums.look()

    def copy(self, path: Path) -> None:
        part = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            create_private(part)
            with closing(sqlite3.connect(part)) as other:
                self._db.backup(other)
                other.execute("PRAGMA journal_mode = DELETE")  # one file, which a reader can take as it is
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
            end = time.monotonic() + _BEGINNING
            while not self._has_tables() and time.monotonic() < end:
                time.sleep(0.02)
            self._check()
        except (sqlite3.Error, StoreError, UnicodeDecodeError):
            self._db.close()
            raise

    def _has_tables(self) -> bool:
        return bool(self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])

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
        self.set_about("space", description)
        self._db.execute("COMMIT")

    def _write(self, statement: str, *rows: Sequence[Any]) -> int:
        """Execute a statement for every row inside the open transaction; return the key of the row where it
        was one.
        """
        try:
            if not self._db.in_transaction:
                self._db.execute("BEGIN IMMEDIATE")
            self._sums.create()
            cursor = (
                self._db.execute(statement, rows[0])
                if len(rows) == 1
                else self._db.executemany(statement, rows)
            )
            return cursor.lastrowid or 0
        except sqlite3.OperationalError as error:
            raise self._failure(error) from None
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF not in _DAMAGE:
                raise
            self.rollback()
            raise DamagedRowError(self._place, "it cannot be written", str(error)) from None

    def _seal(self, table: str, which: str, *keys: Sequence[Any]) -> None:
        """Keep the checksums of rows that were written just now."""
        self._write(f"{self._sums.keep(table)} WHERE {which}", *keys)

    def _failure(self, error: sqlite3.OperationalError) -> Exception:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return error
        self.rollback()  # SQLite may have done so already
        return StoreError(StoreFault.FULL, str(error))

    # -- reading, from a file that may be damaged ------------------------------------------------------------

    def _rows(self, statement: str, values: Sequence[Any], what: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query.

        Raises:
            DamagedRowError: the database cannot give them.
        """
        try:
            return self._db.execute(statement, values).fetchall()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
            if isinstance(error, sqlite3.ProgrammingError) or code in _BUSY:
                raise
            raise DamagedRowError(self._place, what, str(error)) from None

    def _page(self, statement: str, start: int, table: str) -> list[tuple[Any, ...]]:
        """Return the next rows; where they cannot be read, those before the first that cannot."""
        try:
            return self._db.execute(statement, (start, _PAGE)).fetchall()
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            rows: list[tuple[Any, ...]] = []
            for count in range(1, _PAGE + 1):
                after = f"{table}, the row after {rows[-1][0] if rows else start}"
                found = self._rows(statement, (start, count), after)
                if len(found) < count:
                    break
                rows = found
            return rows

    @contextmanager
    def _reading(self, row: str, sound: object = 1) -> Iterator[None]:
        """Refuse a row that is not what was written, or that cannot be understood."""
        if not sound:
            raise DamagedRowError(self._place, row, "it is not what was written")
        try:
            yield
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            reason = " ".join(str(error).split())[:120]
            raise DamagedRowError(self._place, row, f"it cannot be read ({reason})") from None

    def _value(self, table: str, key: str) -> Any:
        statement = f"SELECT value, {self._sums.sound(table)} FROM {table} WHERE key = ?"
        rows = self._rows(statement, (key,), f"{table}, row {key!r}")
        if not rows:
            return None
        with self._reading(f"{table}, row {key!r}", rows[0][1]):
            return json.loads(rows[0][0])

    @property
    def _evaluated(self) -> str:
        """The query of evaluations; it lacks its WHERE."""
        whole = f"CASE WHEN {self._sums.sound('notes')} THEN value ELSE char(0) END"
        return (
            "SELECT e.seq, c.id, c.genome, c.parents, c.operator,"
            f" coalesce((SELECT {whole} FROM notes WHERE key = '{_SEED}' || c.id), c.seed),"
            f" {self._sums.sound('candidates', 'c')},"
            " e.state, e.metrics, e.reason, e.seconds, e.worker, e.attempts, e.at,"
            f" (SELECT {whole} FROM notes WHERE key = '{_CAUSE}' || c.id),"
            f" {self._sums.sound('evaluations', 'e')}"
            " FROM evaluations e JOIN candidates c ON c.id = e.id"
        )

    def _candidate(self, row: Sequence[Any], parents: Any = _UNREAD) -> CandidateRow:
        id, genome, text, operator, seed, sound = row
        with self._reading(f"candidates, row {id}", sound):
            if not isinstance(genome, bytes) or not isinstance(operator, str):
                raise TypeError("a value of another type")
            parents = json.loads(text) if parents is _UNREAD else parents
            return CandidateRow(id, genome, tuple(map(int, parents)), operator, int(seed))

    def _evaluation(
        self, row: Sequence[Any], parents: Any = _UNREAD, metrics: Any = _UNREAD
    ) -> EvaluationRow:
        state, text, reason, seconds, worker, attempts, at, cause, sound = row[7:]
        candidate = self._candidate(row[1:7], parents)
        with self._reading(f"evaluations, row {row[0]}, of candidate {candidate.id}", sound):
            if state not in _STATES or not isinstance(reason, str) or not isinstance(worker, str):
                raise TypeError("a value of another type")
            return EvaluationRow(
                candidate,
                state,
                _metrics(text, metrics),
                reason,
                float(seconds),
                worker,
                int(attempts),
                None if cause is None else json.loads(cause),
                float(at),
                row[0],
                cause is not None,
            )


def _metrics(text: str, found: Any = _UNREAD) -> dict[str, float]:
    """Read metrics.

    Args:
        text: JSON.
        found: what it says, where that was read before.

    Raises:
        ValueError: they are none.
    """
    found = json.loads(text) if found is _UNREAD else found
    if not isinstance(found, dict) or not all(isinstance(value, int | float) for value in found.values()):
        raise ValueError("no metrics")
    return found


def _fault(error: sqlite3.Error | StoreError | UnicodeDecodeError) -> StoreError:
    """Say why a file cannot be opened. (SQLite quotes a damaged schema, which may be no text.)"""
    if isinstance(error, StoreError):
        return error
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF  # ours have none
    if code in _CANNOT_WRITE:
        return StoreError(StoreFault.UNWRITABLE, str(error))
    if code in _BUSY:
        return StoreError(StoreFault.BUSY, str(error))
    return StoreError(StoreFault.DAMAGED, " ".join(str(error).split()))


def _decoded(rows: Sequence[Sequence[Any]], column: int) -> list[Any]:
    """Return what a column of JSON says, of all rows at once, which is several times as fast; `_UNREAD` for
    each where one of them is damaged.
    """
    try:
        found = json.loads(f"[{','.join([row[column] for row in rows])}]")
    except (ValueError, TypeError, RecursionError):
        found = []
    return found if len(found) == len(rows) else [_UNREAD] * len(rows)
