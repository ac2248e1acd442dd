"""What failed in an earlier call is tried again, and what followed from it is asked anew.

A search asks each candidate after the results that it has been told. When a failure among these is undone,
what was asked after it may be asked differently. So the ledger keeps a note from which candidate on it may
disagree with the strategy, until all that it has has been asked again: a candidate that comes out as it was
keeps its result, another one takes the place of the recorded one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Literal

from evaluators.base import Evaluation, State
from search.ending import Ending, EndingKind
from search.record.finals import disown
from search.record.ledger import Ledger

TRIAL = 50
"""So many results are enough to see that a run cannot succeed: most of them have failed."""
_NOTE, _TRIED = "retry", "tried/"


@dataclass(frozen=True)
class Retry:
    """Failures that are being undone.

    Attributes:
        first: the first candidate that had failed; those before it were asked without knowing of it.
        before: number of the last evaluation that arrived before the first failure.
        last: number of the last evaluation when the failures were undone.
    """

    first: int
    before: int
    last: int

    @classmethod
    def load(cls, ledger: Ledger) -> Retry | None:
        """Return what is under way; None where nothing is."""
        note = ledger.note(_NOTE)
        return None if note is None else cls(**note)

    @classmethod
    def begin(cls, ledger: Ledger) -> Retry | None:
        """Undo all failures of a run and return what is under way; None where nothing is. Commits.

        How often a candidate was started is kept: :func:`tried`.
        """
        under_way = cls.load(ledger)
        failed = [(seq, e) for seq, e in ledger.evaluations() if e.state is State.FAILED]
        if not failed:
            return under_way
        retry = cls(min(e.candidate.id for _, e in failed), failed[0][0] - 1, ledger.last_seq)
        if under_way is not None:  # what that one has told anew since is told anew once more
            first, before = min(retry.first, under_way.first), min(retry.before, under_way.before)
            retry = cls(first, before, retry.last)
        for _, evaluation in failed:
            id = evaluation.candidate.id
            ledger.save_note(f"{_TRIED}{id}", evaluation.attempts)
            ledger.remove_evaluation(id)
        ledger.save_note(_NOTE, asdict(retry))
        ledger.commit()
        return retry

    @staticmethod
    def end(ledger: Ledger) -> None:
        """Note that ledger and strategy agree again; the caller commits."""
        ledger.save_note(_NOTE, None)

    def was_told(self, seq: int) -> bool:
        """Whether the evaluation of this number is told by its place in the order of arrival: it came before
        the first failure, or was told anew since.
        """
        return not self.before < seq <= self.last

    def supersede(self, ledger: Ledger, id: int) -> None:
        """Make room for another candidate of this id; what was exported of the recorded one stays."""
        disown(ledger, id)
        ledger.remove_candidate(id)
        ledger.save_note(f"{_TRIED}{id}", None)


def tried(ledger: Ledger) -> dict[int, int]:
    """Return how often candidates whose failures were undone had been started by then."""
    return {int(id): attempts for id, attempts in ledger.notes(_TRIED).items() if attempts}


def is_stuck(ledger: Ledger, order: Literal["strict", "arrival"] = "strict") -> bool:
    """Return whether a run has ended in failures, or would if it had come to an end: most of its first
    results are failures.
    """
    ending = Ending.read(ledger.note)
    if ending is not None and ending.kind is EndingKind.FAILURES:
        return True
    first = list(_first(ledger, order))
    return sum(e.state is State.FAILED for e in first) > len(first) / 2


def _first(ledger: Ledger, order: str) -> Iterable[Evaluation]:
    """Yield the first results that the strategy was told."""
    if order == "arrival":
        yield from (evaluation for _, evaluation in islice(ledger.evaluations(), TRIAL))
        return
    for candidate in islice(ledger.candidates(), TRIAL):
        if (found := ledger.evaluation(candidate.id, arrays=False)) is not None:
            yield found
