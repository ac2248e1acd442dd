"""Which results of another run mean the same in this one, and why they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evaluators.base import Candidate, Evaluation, Evaluator, State
from search.executors.known import Known
from search.record.identity import Identity
from search.record.ledger import Ledger
from spaces.base import Segment, Space

_SAME = ("model", "weights", "data", "evaluators")
"""What has to be the same: beginnings of the lines of a run's identity. Goals and strategy may differ, a
result knows nothing of them.
"""


class CarriedResults:
    """The completed evaluations of another run, by the genomes that their candidates have in this run's
    space. [O]

    A result is taken over where the same model would be evaluated in the same way: model, weights, data and
    evaluators are those of the other run, and the space is, too, or differs in nothing but the values that
    its choices may take (:attr:`~spaces.base.Space.compatibility`). The code of the user's classes is not
    compared. Where a segment is new or gone it is not known whether the model is the same.

    What is taken over was evaluated with the seed that the candidate had there, and keeps it: a model that is
    built again is the one that was scored. Of several evaluations of a genome the one with the lowest
    id counts, whenever it came.

    Args:
        ledger: of the other run; it stays open as long as this is asked.
        run: what the other run is called.
        space: of this run.
        evaluator: of this run.
        identity: of this run.

    Attributes:
        refusal: why no result can be taken over, in a few words; empty where they can.
        worker: what stands as the worker of results that are taken over.
    """

    def __init__(
        self, ledger: Ledger, run: str, space: Space, evaluator: Evaluator, identity: Identity
    ) -> None:
        self._ledger, self.run, self.worker = ledger, run, f"from {run}"
        self.refusal = _refusal(ledger, space, evaluator, identity)
        self._ids: dict[bytes, int] = {} if self.refusal else self._index(space)

    def __len__(self) -> int:
        return len(self._ids)

    def find(self, candidate: Candidate) -> Known | None:
        """Return what the other run knows of a candidate with this genome, None where it knows nothing."""
        id = self._ids.get(candidate.genome.tobytes())
        before = None if id is None else self._ledger.evaluation(id)
        if before is None:
            return None
        here = replace(candidate, seed=before.candidate.seed)
        result = Evaluation(
            here, State.COMPLETE, before.metrics, before.arrays, worker=self.worker, attempts=0
        )
        return Known(result, self._ledger.reports(before.candidate.id))

    def _index(self, space: Space) -> dict[bytes, int]:
        alleles = _alleles(self._ledger, space)
        ids: dict[bytes, int] = {}
        for _, evaluation in self._ledger.evaluations():
            if evaluation.state is State.COMPLETE:
                genome = alleles[np.arange(space.length), evaluation.candidate.genome]
                if (genome >= 0).all():
                    key, id = genome.astype(np.uint8).tobytes(), evaluation.candidate.id
                    ids[key] = min(id, ids.get(key, id))
        return ids


def _refusal(ledger: Ledger, space: Space, evaluator: Evaluator, identity: Identity) -> str:
    if evaluator.inherits:
        return "candidates begin with weights that their parents left in that run"
    if evaluator.private:
        return evaluator.private
    if different := identity.differences(ledger.identity or {}, _SAME):
        return different[0] + (f", and {len(different) - 1} more" if different[1:] else "")
    return "" if space.is_meant(ledger.fingerprint) else _difference(ledger, space)


def _difference(ledger: Ledger, space: Space) -> str:
    """What beside the values of choices is not as it was in that run's space."""
    kind = type(space).__name__
    names, known = [segment.name for segment in space.segments], [segment.name for segment in ledger.segments]
    if new := [name for name in names if name not in known]:
        return f"{', '.join(new)} of {kind} is new, so it is not known whether the models are the same"
    if gone := [name for name in known if name not in names]:
        return (
            f"{', '.join(gone)} is no choice of {kind} here, so it is not known whether the models are the "
            "same"
        )
    if names != known or any(
        not _alike(ledger, space, *pair) for pair in zip(ledger.segments, space.segments, strict=True)
    ):
        return f"the choices of {kind} are not the same, or in another order"
    if not space.compatibility or not ledger.compatibility:
        return f"another {kind}, and it is not known whether the same values give the same model"
    return (
        ""
        if space.is_compatible(ledger.compatibility)
        else f"its space is of another class than {kind} here, or was made with other arguments"
    )


def _alike(ledger: Ledger, space: Space, before: Segment, now: Segment) -> bool:
    """Whether two segments of one name differ at most in their lists of values."""
    listed = before.name in ledger.alleles, now.name in space.alleles
    return before.size == now.size and (all(listed) or (not any(listed) and before.choices == now.choices))


def _alleles(ledger: Ledger, space: Space) -> np.ndarray:
    """Return for every locus and allele of the other run the allele here, ``(length, 256)``; -1 where its
    value is not to be had.
    """
    same = space.is_meant(ledger.fingerprint)
    table = np.full((space.length, 256), -1, dtype=np.int64)
    for segment in ledger.segments:
        before, now = ledger.alleles.get(segment.name), space.alleles.get(segment.name)
        if before is None or now is None or same:
            table[space.slices[segment.name], : segment.choices] = np.arange(segment.choices)
            continue
        places = {
            repr(value): place for place, value in enumerate(now)
        }  # 1, 1.0 and true are equal, but may not build the same
        table[space.slices[segment.name], : segment.choices] = [
            places.get(repr(value), -1) for value in before
        ]
    return table
