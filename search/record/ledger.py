"""The durable record of a run, and the only truth about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.base import Candidate, Cause, Evaluation, Report, State
from search.record.identity import Identity, without_secrets
from search.record.ledger_store import (
    CandidateRow,
    DamagedRowError,
    EvaluationRow,
    LedgerStore,
    Packing,
    StoreError,
    StoreFault,
)
from search.record.space_changes import space_changes
from search.record.sqlite_store import SQLiteStore
from spaces.base import Segment, Space
from spaces.errors import InputError
from spaces.redaction import redacted_text

_STORABLE = "biufcSU"  # kinds of dtype that are raw bytes
_OLD_REASONS = (
    (State.PRUNED, r"diverged\b", Cause.DIVERGED),
    (State.PRUNED, r"paused\b", Cause.PAUSED),
    (State.PRUNED, r"", Cause.STOPPED),
    (State.FAILED, r"exceeded the time limit of ", Cause.TIME_LIMIT),
    (State.FAILED, r"(its worker died|the worker could not begin)\b", Cause.LOST_WORKER),
    (State.FAILED, r"metric '.*' (is|was) ", Cause.METRIC),
    (State.FAILED, r"", Cause.ERROR),
)
"""State and reason of an evaluation -> its cause, in ledgers of versions that wrote none."""


_HINT = " (with warm_start it begins with what this one found)"
_DRAWN = "; a model that is drawn at random is the same one after torch.manual_seed(0)"
_MOST_NAMED = 8
"""Changes of a space that a refusal names."""


class LedgerError(OSError):
    """The ledger cannot be written any more (a full disk): what was not committed is undone, what was
    committed is kept.
    """


class Ledger:
    """Candidates, reports, evaluations, arrays and notes of one run, kept by a database.

    One process writes; any number of others may read meanwhile through :meth:`reader`. Nothing in it is
    pickled: genomes are packed bits, arrays are raw bytes.

    Args:
        path: the file, made if it does not exist; None keeps the run in memory.
        space: gives meaning to the genomes; its description is stored, so that readers need no model.

    Attributes:
        Store: the database; another one is another class with the methods of
            :class:`~search.record.ledger_store.LedgerStore`.

    Raises:
        InputError: the file is damaged, no ledger, of a newer version, of another space, or cannot be
            written.
    """

    Store = SQLiteStore

    def __init__(self, path: Path | None, space: Space) -> None:
        self.path = path
        try:
            self._take(self.Store(path, _description(space)))
        except StoreError as error:
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
        try:
            ledger._take(cls.Store.reader(path))
        except StoreError as error:
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
            named = self._changes() if "space" in identity.changes(stored) else []
            if named:  # the hash of the space says no more
                different = [*named, *(text for text in different if not text.startswith("space "))]
            drawn = any(text.startswith("weights ") for text in different)
            raise InputError(
                f"{self._place}: belongs to another run, what differs is {', '.join(different)}; give this "
                f"run another name{_HINT}{_DRAWN * drawn}"
            )
        if stored is None or not identity.has_format_of(stored) or stored != without_secrets(stored):
            self._store.set_about("identity", dict(identity.lines))
            self.commit()

    @property
    def identity(self) -> dict[str, str] | None:
        """What the file was bound to by :meth:`claim`, None where nothing was."""
        return self._store.about("identity")

    def add_candidates(self, candidates: Iterable[Candidate]) -> None:
        """Record candidates as they are submitted."""
        with self._writing():
            self._store.add_candidates(self._row(candidate) for candidate in candidates)

    def begin(self, id: int) -> None:
        """Note that the evaluation of a candidate starts, perhaps again: the reports of an earlier attempt
        are dropped.
        """
        with self._writing():
            self._store.drop_reports(id)

    def add_report(self, id: int, report: Report) -> None:
        """Record the metrics of a report; its arrays are kept only where it is the last one, with the
        evaluation.
        """
        with self._writing():
            self._store.add_report(id, report.step, report.metrics)

    def add_evaluation(self, evaluation: Evaluation) -> int:
        """Record what came of a candidate, once; return its number in the order of arrival, from 1.

        A candidate with another seed than the one it was asked with keeps that: a reader of the evaluation
        gets the seed that it had.
        """
        e = evaluation
        row = EvaluationRow(
            self._row(e.candidate),
            e.state.value,
            e.metrics,
            redacted_text(e.reason) if e.reason else "",
            e.seconds,
            e.worker,
            e.attempts,
            None if e.cause is None else e.cause.value,
        )
        with self._writing():
            seq = self._store.add_evaluation(row)
            if e.arrays:
                self._store.save_arrays(e.candidate.id, _storable(e.candidate.id, e.arrays))
        return seq

    def remove_evaluation(self, id: int) -> None:
        """Forget what came of a candidate, so that it is evaluated again; its number is not given again."""
        with self._writing():
            self._store.remove_evaluation(id)

    def arrive_last(self, id: int) -> None:
        """Let the evaluation of a candidate be the one that arrived last."""
        with self._writing():
            self._store.renumber(id)

    def remove_candidate(self, id: int) -> None:
        """Forget a candidate and all that came of it, so that another one may have its id."""
        with self._writing():
            self._store.remove_candidate(id)

    def commit(self) -> None:
        """Make everything added so far durable: what is committed survives the death of the process.

        Raises:
            LedgerError: the disk is full; everything since the last commit is undone.
        """
        with self._writing():
            self._store.commit()

    def rollback(self) -> None:
        """Undo everything since the last commit."""
        self._store.rollback()

    def candidates(self, start: int = 0) -> Iterator[Candidate]:
        """Yield the candidates from id `start` on, in order."""
        return map(self._candidate, self._store.candidates(start))

    def evaluation(self, id: int, arrays: bool = True) -> Evaluation | None:
        """Return what came of a candidate, or None where nothing has yet."""
        row = self._store.evaluation(id)
        return None if row is None else self._evaluation(row, arrays)

    def evaluations(self, after_seq: int = 0, arrays: bool = False) -> Iterator[tuple[int, Evaluation]]:
        """Yield evaluations with their numbers, in the order of arrival, from the one after
        `after_seq` on.
        """
        return ((row.seq, self._evaluation(row, arrays)) for row in self._store.evaluations(after_seq))

    def figures(self, metrics: Sequence[str]) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Yield some metrics of all complete evaluations as columns, in the order of arrival, some hundred at
        once: the ids ``(n,)``, and every metric ``(n,)``, nan where an evaluation has none of the name.
        """
        for page in self._store.figures():
            ids = np.array([id for id, _ in page], dtype=np.int64)
            yield (
                ids,
                {
                    name: np.array([found.get(name, np.nan) for _, found in page], dtype=np.float64)
                    for name in metrics
                },
            )

    def reports(self, id: int) -> list[Report]:
        """Return the reports of a candidate in their order, without arrays."""
        return [Report(metrics, step) for step, metrics in self._store.reports(id)]

    def save_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep named arrays (such as the guide) under a name, instead of those it had before."""
        with self._writing():
            self._store.save_arrays(name, _storable(name, arrays))

    def load_arrays(self, name: str) -> dict[str, np.ndarray] | None:
        """Return the arrays kept under a name, or None where there are none."""
        return self._store.load_arrays(name) or None

    def named_arrays(self, prefix: str) -> dict[str, dict[str, np.ndarray]]:
        """Return all arrays kept under names that begin with `prefix`, by these names."""
        return {name: self._store.load_arrays(name) for name in self._store.array_names(prefix)}

    def save_note(self, key: str, value: Any) -> None:
        """Keep a value that JSON can hold, instead of the one it had before."""
        with self._writing():
            self._store.save_note(key, value)

    def note(self, key: str) -> Any:
        """Return the value of a note, or None where there is none."""
        return self._store.note(key)

    def notes(self, prefix: str) -> dict[str, Any]:
        """Return the notes whose keys begin with `prefix`, by the rest of the key."""
        return self._store.notes(prefix)

    def counts(self) -> dict[str, int]:
        """Return the number of candidates, of evaluations, and of evaluations in every state."""
        found = self._store.counts()
        states = {state.value: found.get(state.value, 0) for state in State}
        return {"candidates": found["candidates"], "evaluations": sum(states.values())} | states

    def evaluated_by(self, worker: str) -> int:
        """Return the number of evaluations by a worker of this name."""
        return self._store.evaluated_by(worker)

    def arrival(self, id: int) -> int | None:
        """Return the number of a candidate's evaluation in the order of arrival, None where there is none."""
        row = self._store.evaluation(id)
        return None if row is None else row.seq

    @property
    def last_seq(self) -> int:
        """The highest number that was ever given to an evaluation; 0 before the first."""
        return self._store.last_seq

    def copy(self, path: Path) -> None:
        """Write all that is committed into another file, which is there whole or not at all, while this run
        goes on or after it.

        Raises:
            LedgerError: the disk is full.
        """
        with self._writing():
            self._store.copy(path)

    def close(self) -> None:
        """Commit and close the file."""
        with self._writing():
            self._store.close()

    # -- the database ----------------------------------------------------------------------------------------

    def _take(self, store: LedgerStore) -> None:
        """Use a database, and read what it says of its space."""
        try:
            description = store.about("space")
            self.fingerprint: str = description["fingerprint"]
            self.compatibility: str = description.get("kinship", "")  # older files do not say
            self.segments = tuple(Segment(*segment) for segment in description["segments"])
            self.alleles = {name: tuple(values) for name, values in description["alleles"].items()}
            self.base = None if description["base"] is None else np.array(description["base"], dtype=np.uint8)
            self._packing = Packing(description["segments"])
        except (TypeError, ValueError, KeyError):
            store.close()
            raise StoreError(StoreFault.DAMAGED, "the description of its space cannot be read") from None
        self._store = store

    def _expect(self, space: Space) -> None:
        self._space = space
        if self.segments != tuple(space.segments):
            raise InputError(
                f"{self._place}: belongs to another space, what differs is {', '.join(self._changes())}; "
                f"give this run another name{_HINT}"
            )

    def _changes(self) -> list[str]:
        """What has a name and is not the same in the space that was given, the first ones."""
        found = space_changes(self.segments, self.alleles, self.note("about") or {}, self._space)
        more = len(found) - _MOST_NAMED
        return [*found[:_MOST_NAMED], *([f"and {more} more"] if more > 0 else [])]

    @property
    def _place(self) -> str:
        return str(self.path or "ledger in memory")

    def _refusal(self, error: StoreError) -> InputError:
        if isinstance(error, InputError):
            return error
        sentences = {
            StoreFault.MISSING: f"{error}; expected the ledger.db of a run",
            StoreFault.FORMAT: str(error),
            StoreFault.UNWRITABLE: f"cannot be opened for writing ({error}); expected a place that can be "
            f"written",
            StoreFault.BUSY: f"in use by another program ({error}); end it first",
            StoreFault.DAMAGED: f"damaged ({error}); expected a ledger of Secateur: restore it, or give this "
            f"run another name",
        }
        return InputError(f"{self._place}: {sentences[error.fault]}")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Tell of a full disk."""
        try:
            yield
        except StoreError as error:
            if error.fault is StoreFault.DAMAGED:
                raise self._refusal(error) from None
            raise LedgerError(
                f"{self._place}: {error}; what was committed is kept: free some space and run the same "
                f"command again"
            ) from None

    # -- rows and what they mean -----------------------------------------------------------------------------

    def _row(self, c: Candidate) -> CandidateRow:
        return CandidateRow(c.id, self._packing.pack(c.genome), c.parents, c.operator, c.seed)

    def _candidate(self, row: CandidateRow) -> Candidate:
        try:
            genome = self._packing.unpack(row.genome)
        except ValueError as error:
            raise DamagedRowError(self._place, f"candidates, row {row.id}", str(error)) from None
        return Candidate(row.id, genome, tuple(row.parents), row.operator, row.seed)

    def _evaluation(self, row: EvaluationRow, arrays: bool) -> Evaluation:
        return Evaluation(
            self._candidate(row.candidate),
            State(row.state),
            dict(row.metrics),
            self._store.load_arrays(row.candidate.id) if arrays else {},
            row.reason,
            row.seconds,
            row.worker,
            row.attempts,
            _cause(row),
        )


def _cause(row: EvaluationRow) -> Cause | None:
    """Return the cause that was recorded; of an older ledger the one that the sentence tells."""
    if row.state == State.COMPLETE.value:
        return None
    if row.has_cause:
        return Cause(row.cause) if row.cause in list(Cause) else None
    return next(
        (
            cause
            for state, pattern, cause in _OLD_REASONS
            if state.value == row.state and re.match(pattern, row.reason)
        ),
        None,
    )


def _description(space: Space) -> dict[str, Any]:
    base = space.base
    # genomes carry names, not places
    return {
        "fingerprint": space.fingerprint,
        "kinship": space.compatibility,
        "segments": [[s.name, s.size, s.choices] for s in space.segments],
        "base": None if base is None else np.asarray(base).tolist(),
        "alleles": {name: list(values) for name, values in space.alleles.items()},
    }


def _storable(owner: int | str, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    for name, array in arrays.items():
        if array.dtype.kind not in _STORABLE:
            raise ValueError(
                f"array {name!r} of {owner!r}: dtype {array.dtype} cannot be stored as raw bytes"
            )
    return arrays
