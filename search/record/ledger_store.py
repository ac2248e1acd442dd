"""What a database must do to keep the ledger of a run: plain rows, notes and arrays.

Another database for the ledger is another class with the methods of :class:`LedgerStore`; the contract suite
:class:`search.testing.ledger.LedgerStoreContract` checks it. Nothing here or in
:class:`~search.record.sqlite_store.SQLiteStore` imports torch, so that the process of the Optuna view stays
small.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from spaces.errors import InputError


class CandidateRow(NamedTuple):
    """A candidate; its genome is packed by :class:`Packing`."""

    id: int
    genome: bytes
    parents: Sequence[int]
    operator: str
    seed: int


class EvaluationRow(NamedTuple):
    """What came of a candidate.

    Attributes:
        candidate: with the seed that it was evaluated with.
        state: ``complete``, ``failed`` or ``pruned``.
        reason: one line for people; empty where the state is ``complete``.
        cause: the same as one of few words; None where that is not known.
        at: seconds since the epoch when it was recorded.
        seq: its number in the order of arrival, from 1; 0 before it is recorded.
        has_cause: whether a cause was recorded, be it None; false in ledgers of older versions.
    """

    candidate: CandidateRow
    state: str
    metrics: Mapping[str, float]
    reason: str
    seconds: float
    worker: str
    attempts: int
    cause: str | None = None
    at: float = 0.0
    seq: int = 0
    has_cause: bool = True


class StoreFault(StrEnum):
    """Why a database cannot serve."""

    MISSING = "missing"
    DAMAGED = "damaged"
    UNWRITABLE = "unwritable"
    BUSY = "busy"
    FORMAT = "format"
    FULL = "full"


class StoreError(Exception):
    """A database cannot be opened, or not be written any more.

    Args:
        fault: why.
        text: what the database says, in one line.
    """

    def __init__(self, fault: StoreFault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


class DamagedRowError(StoreError, InputError):
    """A row cannot be read, or is not what was written.

    Args:
        place: of the database, as people know it.
        row: which one: table and key.
        what: is wrong with it.
    """

    def __init__(self, place: str, row: str, what: str) -> None:
        self.fault = StoreFault.DAMAGED
        InputError.__init__(
            self,
            f"{place}: damaged: {row}: {what}; expected what a search wrote: restore the file, or give this "
            f"run another name",
        )


class LedgerStore(Protocol):
    """The tables of one run. One process writes, any number of others may read meanwhile.

    What is added is durable after :meth:`commit` and seen by others only then. Rows come back in the order in
    which the methods say, and no read keeps a lock while its caller works.
    """

    def about(self, key: str) -> Any:
        """Return a value that was set once for the whole run, None where there is none."""

    def set_about(self, key: str, value: Any) -> None:
        """Set a value that JSON can hold, once."""

    def add_candidates(self, rows: Iterable[CandidateRow]) -> None:
        """Record candidates, each once."""

    def candidates(self, start: int = 0) -> Iterator[CandidateRow]:
        """Yield the candidates from id `start` on, in the order of their ids."""

    def add_report(self, id: int, step: int, metrics: Mapping[str, float]) -> None:
        """Record a report of a candidate after those that it gave before."""

    def drop_reports(self, id: int) -> None:
        """Forget the reports of a candidate."""

    def reports(self, id: int) -> list[tuple[int, dict[str, float]]]:
        """Return step and metrics of the reports of a candidate in their order."""

    def add_evaluation(self, row: EvaluationRow) -> int:
        """Record what came of a candidate, once; return its number in the order of arrival, from 1.

        The candidate keeps the seed that it was recorded with; that of the row belongs to the evaluation.
        """

    def evaluation(self, id: int) -> EvaluationRow | None:
        """Return what came of a candidate, None where nothing has yet."""

    def evaluations(self, after_seq: int = 0) -> Iterator[EvaluationRow]:
        """Yield evaluations in the order of arrival, from the one after `after_seq` on."""

    def figures(self) -> Iterator[list[tuple[int, dict[str, float]]]]:
        """Yield ids and metrics of the complete evaluations in the order of arrival, page by page."""

    def remove_evaluation(self, id: int) -> None:
        """Forget what came of a candidate, its reports and its arrays; its number is not given again."""

    def renumber(self, id: int) -> None:
        """Let the evaluation of a candidate be the one that arrived last."""

    def remove_candidate(self, id: int) -> None:
        """Forget a candidate and all that came of it."""

    @property
    def last_seq(self) -> int:
        """The highest number that was ever given to an evaluation; 0 before the first."""

    def counts(self) -> dict[str, int]:
        """Return the number of ``candidates``, and of evaluations in every state that occurs."""

    def evaluated_by(self, worker: str) -> int:
        """Return the number of evaluations by a worker of this name."""

    def save_arrays(self, owner: int | str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep named arrays of plain dtypes for a candidate (an id) or under a name, instead of those that
        were there before.
        """

    def load_arrays(self, owner: int | str) -> dict[str, np.ndarray]:
        """Return copies of the arrays of an owner in the order in which they were given; empty where there
        are none.
        """

    def array_names(self, prefix: str) -> list[str]:
        """Return the names (not the ids) under which there are arrays, of those that begin with `prefix`."""

    def save_note(self, key: str, value: Any) -> None:
        """Keep a value that JSON can hold, instead of the one it had before."""

    def note(self, key: str) -> Any:
        """Return the value of a note, None where there is none."""

    def notes(self, prefix: str) -> dict[str, Any]:
        """Return the notes whose keys begin with `prefix`, by the rest of the key."""

    def commit(self) -> None:
        """Make everything added so far durable.

        Raises:
            StoreError: there is no room for it (FULL); everything since the last commit is undone. So may
                every method that adds.
        """

    def rollback(self) -> None:
        """Undo everything since the last commit."""

    def copy(self, path: Path) -> None:
        """Write all that is committed into one file, which is there whole or not at all."""

    def close(self) -> None:
        """Commit and let go of the database."""


class Packing:
    """Genomes as bytes: eight loci a byte where all are bits, else one byte each.

    Args:
        segments: name, number of loci and number of choices of each, as the ledger describes its space.
    """

    def __init__(self, segments: Sequence[Sequence[Any]]) -> None:
        self._length = sum(size for _, size, _ in segments)
        self._bits = all(choices == 2 for _, _, choices in segments)

    def pack(self, genome: np.ndarray) -> bytes:
        """Return the bytes of a genome ``(length,)``.

        Raises:
            ValueError: it has another shape.
        """
        genome = np.ascontiguousarray(genome, dtype=np.uint8)
        if genome.shape != (self._length,):
            raise ValueError(f"a genome of this space has shape ({self._length},), got {genome.shape}")
        return np.packbits(genome).tobytes() if self._bits else genome.tobytes()

    def unpack(self, packed: bytes) -> np.ndarray:
        """Return the genome ``(length,)``, uint8.

        Raises:
            ValueError: these are not the bytes of a genome.
        """
        raw = np.frombuffer(packed, dtype=np.uint8)
        if len(raw) != (-(-self._length // 8) if self._bits else self._length):
            raise ValueError(f"a genome of this space has {self._length} loci, got {len(raw)} bytes")
        return np.unpackbits(raw, count=self._length) if self._bits else raw.copy()
