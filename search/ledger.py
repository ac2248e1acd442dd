"""The durable record of a run, and the only truth about it."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.base import Candidate, Evaluation, Report, State
from search.identity import Identity
from spaces.base import Segment, Space
from spaces.errors import InputError
from spaces.files import replacing

FORMAT = 1
_APPLICATION = 0x53454341  # "SECA": tells a ledger from any other SQLite file
_PAGE = 500  # rows read at once, so that no read transaction stays open while a caller works
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
_EVALUATION = (
    "SELECT e.seq, c.id, c.genome, c.parents, c.operator, coalesce((SELECT value FROM notes WHERE key = "
    "'seed/' || c.id), c.seed),"
    " e.state, e.metrics, e.reason, e.seconds, e.worker, e.attempts"
    " FROM evaluations e JOIN candidates c ON c.id = e.id"
)


class LedgerError(OSError):
    """The ledger cannot be written any more (a full disk): what was not committed is undone, what was
    committed is kept.
    """


class Ledger:
    """Candidates, reports, evaluations, arrays and notes of one run in one SQLite file (WAL, one transaction
    a :meth:`commit`).

    One process writes; any number of others may read meanwhile through :meth:`reader`. Nothing in it is
    pickled: genomes are packed bits, metrics are JSON, arrays are raw bytes beside their dtype and shape.

    Args:
        path: the file, made if it does not exist; None keeps the run in memory.
        space: gives meaning to the genomes; its description is stored, so that readers need no model.

    Raises:
        InputError: the file is damaged, no ledger, of a newer version, of another space, or cannot be
            written.
    """

    def __init__(self, path: Path | None, space: Space) -> None:
        self.path = path
        try:
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=30)
            new = not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if not new:  # what is not ours is left as it was found
                self._open()
                if (damage := self._db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                    raise sqlite3.DatabaseError(damage.splitlines()[-1])
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            if new:
                self._create(space)
                self._open()
        except sqlite3.Error as error:
            raise self._refusal(error) from None
        self._expect(space)

    @classmethod
    def reader(cls, path: Path, space: Space | None = None) -> Ledger:
        """Open the ledger of a run to read it, from any process, while the run goes on or after it.

        Raises:
            InputError: there is no such file, or it is damaged, no ledger, of a newer version or (where one
                is given) of another space.
        """
        ledger = cls.__new__(cls)
        ledger.path = path
        if not path.is_file():
            raise InputError(f"{path}: no ledger here; expected the ledger.db of a run")
        try:
            try:
                ledger._db = sqlite3.connect(
                    f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=30
                )
                ledger._open()
            except (
                sqlite3.OperationalError
            ):  # a directory that may only be read has no room for the WAL index
                ledger._db = sqlite3.connect(
                    f"{path.resolve().as_uri()}?immutable=1", uri=True, isolation_level=None
                )
                ledger._open()
        except sqlite3.Error as error:
            raise ledger._refusal(error) from None
        if space is not None:
            ledger._expect(space)
        return ledger

    def claim(self, identity: Identity) -> None:
        """Bind the file to the identity of a run.

        Raises:
            InputError: it belongs to another run; names every key that differs. Nothing is written then. An
                identity of an older format is compared as far as it goes, and written anew.
        """
        stored = self.identity
        if stored is not None and (different := identity.differences(stored)):
            raise InputError(
                f"{self._place}: belongs to another run, what differs is {', '.join(different)}; give this "
                f"run another name"
            )
        if stored is None or not identity.has_format_of(stored):
            self._write(
                "INSERT OR REPLACE INTO about VALUES ('identity', ?)", (json.dumps(dict(identity.lines)),)
            )
            self.commit()

    @property
    def identity(self) -> dict[str, str] | None:
        """What the file was bound to by :meth:`claim`, None where nothing was."""
        return self._about("identity")

    def add_candidates(self, candidates: Iterable[Candidate]) -> None:
        """Record candidates as they are submitted."""
        rows = [(c.id, self._pack(c.genome), json.dumps(c.parents), c.operator, c.seed) for c in candidates]
        self._write("INSERT INTO candidates VALUES (?, ?, ?, ?, ?)", *rows)

    def begin(self, id: int) -> None:
        """Note that the evaluation of a candidate starts, perhaps again: the reports of an earlier attempt
        are dropped.
        """
        self._write("DELETE FROM reports WHERE id = ?", (id,))

    def add_report(self, id: int, report: Report) -> None:
        """Record the metrics of a report; its arrays are kept only where it is the last one, with the
        evaluation.
        """
        self._write(
            "INSERT INTO reports VALUES (?1, (SELECT coalesce(max(position) + 1, 0) FROM reports WHERE id = "
            "?1), ?2, ?3)",
            (id, report.step, json.dumps(report.metrics)),
        )

    def add_evaluation(self, evaluation: Evaluation) -> int:
        """Record what came of a candidate, once; return its number in the order of arrival, from 1.

        A candidate with another seed than the one it was asked with keeps that: who reads the evaluation gets
        the seed that it had.
        """
        e = evaluation
        row = (
            e.candidate.id,
            e.state.value,
            json.dumps(e.metrics),
            e.reason,
            e.seconds,
            e.worker,
            e.attempts,
            time.time(),
        )
        seq = self._write("INSERT INTO evaluations VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        seed = (str(e.candidate.seed), e.candidate.id, e.candidate.seed)
        self._write(
            "INSERT OR REPLACE INTO notes SELECT 'seed/' || id, ? FROM candidates WHERE id = ? AND seed <> ?",
            seed,
        )
        if e.arrays:
            self._save(e.candidate.id, e.arrays)
        return seq

    def commit(self) -> None:
        """Make everything added so far durable: what is committed survives the death of the process.

        Raises:
            LedgerError: the disk is full; everything since the last commit is undone.
        """
        if self._db.in_transaction:
            try:
                self._db.execute("COMMIT")
            except sqlite3.OperationalError as error:
                raise self._failure(error) from None

    def rollback(self) -> None:
        """Undo everything since the last commit."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def candidates(self, start: int = 0) -> Iterator[Candidate]:
        """Yield the candidates from id `start` on, in order."""
        while rows := self._db.execute(
            "SELECT id, genome, parents, operator, seed FROM candidates WHERE id >= ? ORDER BY id LIMIT ?",
            (start, _PAGE),
        ).fetchall():
            for row in rows:
                yield self._candidate(row)
            start = rows[-1][0] + 1

    def evaluation(self, id: int, arrays: bool = True) -> Evaluation | None:
        """Return what came of a candidate, or None where nothing has yet."""
        row = self._db.execute(f"{_EVALUATION} WHERE e.id = ?", (id,)).fetchone()
        return None if row is None else self._evaluation(row, arrays)

    def evaluations(self, after_seq: int = 0, arrays: bool = False) -> Iterator[tuple[int, Evaluation]]:
        """Yield evaluations with their numbers, in the order of arrival, from the one after
        `after_seq` on.
        """
        while rows := self._db.execute(
            f"{_EVALUATION} WHERE e.seq > ? ORDER BY e.seq LIMIT ?", (after_seq, _PAGE)
        ).fetchall():
            for row in rows:
                yield row[0], self._evaluation(row, arrays)
            after_seq = rows[-1][0]

    def reports(self, id: int) -> list[Report]:
        """Return the reports of a candidate in their order, without arrays."""
        rows = self._db.execute("SELECT metrics, step FROM reports WHERE id = ? ORDER BY position", (id,))
        return [Report(json.loads(metrics), step) for metrics, step in rows]

    def save_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep named arrays (such as the guide) under a name, instead of those it had before."""
        self._write("DELETE FROM arrays WHERE owner = ?", (name,))
        self._save(name, arrays)

    def load_arrays(self, name: str) -> dict[str, np.ndarray] | None:
        """Return the arrays kept under a name, or None where there are none."""
        return self._load(name) or None

    def named_arrays(self, prefix: str) -> dict[str, dict[str, np.ndarray]]:
        """Return all arrays kept under names that begin with `prefix`, by these names."""
        rows = self._db.execute(
            "SELECT DISTINCT owner FROM arrays WHERE typeof(owner) = 'text' AND substr(owner, 1, ?) = ?",
            (len(prefix), prefix),
        )
        return {owner: self._load(owner) for (owner,) in rows.fetchall()}

    def save_note(self, key: str, value: Any) -> None:
        """Keep a value that JSON can hold, instead of the one it had before."""
        self._write("INSERT OR REPLACE INTO notes VALUES (?, ?)", (key, json.dumps(value)))

    def note(self, key: str) -> Any:
        """Return the value of a note, or None where there is none."""
        row = self._db.execute("SELECT value FROM notes WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def counts(self) -> dict[str, int]:
        """Return the number of candidates, of evaluations, and of evaluations in every state."""
        states = dict(self._db.execute("SELECT state, count(*) FROM evaluations GROUP BY state"))
        totals = {
            "candidates": self._db.execute("SELECT count(*) FROM candidates").fetchone()[0],
            "evaluations": sum(states.values()),
        }
        return totals | {state.value: states.get(state.value, 0) for state in State}

    def evaluated_by(self, worker: str) -> int:
        """Return the number of evaluations by a worker of this name."""
        return self._db.execute("SELECT count(*) FROM evaluations WHERE worker = ?", (worker,)).fetchone()[0]

    @property
    def last_seq(self) -> int:
        """Number of the evaluation that arrived last; 0 before the first."""
        return self._db.execute("SELECT coalesce(max(seq), 0) FROM evaluations").fetchone()[0]

    def copy(self, path: Path) -> None:
        """Write all that is committed into another file, which is there whole or not at all, while this run
        goes on or after it.

        Raises:
            LedgerError: the disk is full.
        """
        try:
            with replacing(path) as part, closing(sqlite3.connect(part)) as other:
                self._db.backup(other)
                other.execute("PRAGMA journal_mode = DELETE")  # one file, which a reader can take as it is
        except sqlite3.OperationalError as error:
            raise self._failure(error) from None

    def close(self) -> None:
        """Commit and close the file."""
        self.commit()
        self._db.close()

    # -- the file --------------------------------------------------------------------------------------------

    def _create(self, space: Space) -> None:
        base = space.base
        description = {
            "fingerprint": space.fingerprint,
            "kinship": space.kinship,
            "segments": [[s.name, s.size, s.choices] for s in space.segments],
            "base": None if base is None else np.asarray(base).tolist(),
            "alleles": {
                name: list(values) for name, values in space.alleles.items()
            },  # genomes carry names, not places
        }
        self._db.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            self._db.execute(statement)
        self._db.execute(f"PRAGMA application_id = {_APPLICATION}")
        self._db.execute(f"PRAGMA user_version = {FORMAT}")
        self._db.execute("INSERT INTO about VALUES ('space', ?)", (json.dumps(description),))
        self._db.execute("COMMIT")

    def _open(self) -> None:
        if self._db.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
            raise sqlite3.DatabaseError("it is not a ledger")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version != FORMAT:
            raise InputError(
                f"{self._place}: written by another version of Secateur (format {version}); this one reads "
                f"format {FORMAT}"
            )
        try:
            description = self._about("space")
            self.fingerprint: str = description["fingerprint"]
            self.kinship: str = description.get("kinship", "")  # older files do not say
            self.segments = tuple(Segment(*segment) for segment in description["segments"])
            self.alleles = {name: tuple(values) for name, values in description["alleles"].items()}
            self.base = None if description["base"] is None else np.array(description["base"], dtype=np.uint8)
        except (TypeError, ValueError, KeyError):
            raise sqlite3.DatabaseError("the description of its space cannot be read") from None
        self._length = sum(segment.size for segment in self.segments)
        self._bits = all(segment.choices == 2 for segment in self.segments)

    def _expect(self, space: Space) -> None:
        for stored, given in zip_longest(self.segments, space.segments):
            if stored != given:
                difference = (
                    f"it has {stored or 'no more segments'} where this one has {given or 'no more segments'}"
                )
                raise InputError(
                    f"{self._place}: belongs to another space, {difference}; give this run another name"
                )

    @property
    def _place(self) -> str:
        return str(self.path or "ledger in memory")

    def _refusal(self, error: sqlite3.Error) -> InputError:
        self._db.close() if hasattr(self, "_db") else None
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code in (
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_READONLY,
            sqlite3.SQLITE_PERM,
            sqlite3.SQLITE_FULL,
            sqlite3.SQLITE_IOERR,
        ):
            return InputError(
                f"{self._place}: cannot be opened for writing ({error}); expected a place that can be written"
            )
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return InputError(f"{self._place}: in use by another program ({error}); end it first")
        return InputError(
            f"{self._place}: damaged ({error}); expected a ledger of Secateur: restore it, or give this run "
            f"another name"
        )

    def _failure(self, error: sqlite3.OperationalError) -> Exception:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return error
        self.rollback()  # SQLite may have done so already
        return LedgerError(
            f"{self._place}: {error}; what was committed is kept: free some space and run the same command "
            f"again"
        )

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

    # -- rows and what they mean -----------------------------------------------------------------------------

    def _about(self, key: str) -> Any:
        row = self._db.execute("SELECT value FROM about WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def _pack(self, genome: np.ndarray) -> bytes:
        """As ``Space.pack``: the description in the file is enough to read it back."""
        genome = np.ascontiguousarray(genome, dtype=np.uint8)
        if genome.shape != (self._length,):
            raise ValueError(f"a genome of this space has shape ({self._length},), got {genome.shape}")
        return np.packbits(genome).tobytes() if self._bits else genome.tobytes()

    def _unpack(self, packed: bytes) -> np.ndarray:
        raw = np.frombuffer(packed, dtype=np.uint8)
        return np.unpackbits(raw, count=self._length) if self._bits else raw.copy()

    def _candidate(self, row: Sequence[Any]) -> Candidate:
        id, genome, parents, operator, seed = row
        return Candidate(id, self._unpack(genome), tuple(json.loads(parents)), operator, int(seed))

    def _evaluation(self, row: Sequence[Any], arrays: bool) -> Evaluation:
        state, metrics, reason, seconds, worker, attempts = row[6:]
        loaded = self._load(row[1]) if arrays else {}
        return Evaluation(
            self._candidate(row[1:6]),
            State(state),
            json.loads(metrics),
            loaded,
            reason,
            seconds,
            worker,
            attempts,
        )

    def _save(self, owner: int | str, arrays: Mapping[str, np.ndarray]) -> None:
        rows = []
        for name, array in arrays.items():
            if array.dtype.kind not in "biufcSU":
                raise ValueError(
                    f"array {name!r} of {owner!r}: dtype {array.dtype} cannot be stored as raw bytes"
                )
            rows.append((owner, name, array.dtype.str, json.dumps(array.shape), array.tobytes()))
        self._write("INSERT INTO arrays VALUES (?, ?, ?, ?, ?)", *rows)

    def _load(self, owner: int | str) -> dict[str, np.ndarray]:
        rows = self._db.execute(
            "SELECT name, dtype, shape, data FROM arrays WHERE owner = ? ORDER BY rowid", (owner,)
        )
        return {
            name: np.frombuffer(data, dtype, math.prod(size := json.loads(shape))).reshape(size).copy()
            for name, dtype, shape, data in rows
        }
