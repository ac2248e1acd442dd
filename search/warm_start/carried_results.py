"""Which results of another run mean the same in this one, and why they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evaluators.base import Candidate, Cause, Evaluation, Evaluator, State
from search.executors.known import Known
from search.front import Front
from search.record.about import About
from search.record.identity import Identity
from search.record.ledger import Ledger
from search.record.space_changes import space_changes
from search.warm_start.translation import declared_parameters, translation
from spaces.base import Parametric, Segment, Space

SAME = ("model", "weights", "data", "evaluators")
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

    On request trials that were stopped early are results, too: those that diverged, and, where objectives,
    pruner and monitor are the same here, those that the pruner stopped.

    Args:
        ledger: of the other run; it stays open as long as this is asked.
        run: what the other run is called.
        space: of this run.
        evaluator: of this run.
        identity: of this run.
        stopped: whether trials that were stopped early are taken over, too.

    Attributes:
        refusal: why no result can be taken over, in a few words; empty where they can.
        worker: what stands as the worker of results that are taken over.
        left_out: number of results whose candidates this run's space does not have.
    """

    def __init__(
        self,
        ledger: Ledger,
        run: str,
        space: Space,
        evaluator: Evaluator,
        identity: Identity,
        stopped: bool = False,
    ) -> None:
        self._ledger, self.run, self.worker = ledger, run, f"from {run}"
        self.left_out = 0
        self._causes = _causes(ledger, identity) if stopped else frozenset()
        self.refusal = _refusal(ledger, space, evaluator, identity)
        self._ids: dict[bytes, int] = {} if self.refusal else self._index(space)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def genomes(self) -> list[np.ndarray]:
        """The genomes whose results are known: the front of that run first, then as they were asked there."""
        front = Front(About.load(self._ledger).problem())
        for _, evaluation in self._ledger.evaluations():
            front.add(evaluation)
        members = {member.candidate.id for member in front.members}
        ordered = sorted(self._ids, key=lambda key: (self._ids[key] not in members, self._ids[key]))
        return [np.frombuffer(key, dtype=np.uint8).copy() for key in ordered]

    def find(self, candidate: Candidate) -> Known | None:
        """Return what the other run knows of a candidate with this genome, None where it knows nothing."""
        id = self._ids.get(candidate.genome.tobytes())
        before = None if id is None else self._ledger.evaluation(id)
        if before is None:
            return None
        here = replace(candidate, seed=before.candidate.seed)
        result = replace(before, candidate=here, seconds=0.0, worker=self.worker, attempts=0)
        return Known(result, self._ledger.reports(before.candidate.id))

    def _index(self, space: Space) -> dict[bytes, int]:
        carry = translation(self._ledger, space)
        ids: dict[bytes, int] = {}
        for _, evaluation in self._ledger.evaluations():
            if not self._is_known(evaluation):
                continue
            genome = carry.same(evaluation.candidate.genome)
            if genome is None:
                self.left_out += 1
                continue
            key, id = genome.tobytes(), evaluation.candidate.id
            ids[key] = min(id, ids.get(key, id))
        return ids

    def _is_known(self, evaluation: Evaluation) -> bool:
        if evaluation.state is State.COMPLETE:
            return True
        return evaluation.state is State.PRUNED and evaluation.cause in self._causes


def _causes(ledger: Ledger, identity: Identity) -> frozenset[Cause]:
    """Return why a trial may have been stopped there so that it would be stopped here, too."""
    judged = ("objectives", "strategy.pruner", "strategy.monitor")
    different = identity.changes(ledger.identity or {}, ("objectives", "strategy"))
    if any(key.startswith(judged) for key in different):
        return frozenset({Cause.DIVERGED})
    return frozenset({Cause.DIVERGED, Cause.STOPPED})


def _refusal(ledger: Ledger, space: Space, evaluator: Evaluator, identity: Identity) -> str:
    if evaluator.inherits:
        return "candidates begin with weights that their parents left in that run"
    if evaluator.private:
        return evaluator.private
    if different := identity.differences(ledger.identity or {}, SAME):
        return different[0] + (f", and {len(different) - 1} more" if different[1:] else "")
    return difference(ledger, space)


def difference(ledger: Ledger, space: Space) -> str:
    """Return what beside the values of choices is not as it was in a run's space; empty where nothing is."""
    if space.is_meant(ledger.fingerprint):
        return ""
    kind = type(space).__name__
    declared = declared_parameters(ledger)
    if isinstance(space, Parametric) and declared:
        return _other_trials(ledger, space, declared)
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


def _other_trials(ledger: Ledger, space: Space, declared: dict[str, str]) -> str:
    """What beside the ranges of parameters is not as it was in a run of trials."""
    assert isinstance(space, Parametric)
    if new := [name for name in space.distributions if name not in declared]:
        return f"{', '.join(new)} is new, so it is not known which value the old trials had"
    if gone := [name for name in declared if name not in space.distributions]:
        return f"{', '.join(gone)} is no parameter here, so the trials are not the same"
    if space.is_compatible(ledger.compatibility) or space.is_meant_with(ledger.fingerprint, declared):
        return ""
    changes = space_changes(ledger.segments, ledger.alleles, ledger.note("about") or {}, space)
    others = [text for text in changes if text.startswith(("space: model", "space: init_args", "space: sug"))]
    return ", ".join(others) or "the model of its trials, or its arguments, may be others"


def _alike(ledger: Ledger, space: Space, before: Segment, now: Segment) -> bool:
    """Whether two segments of one name differ at most in their lists of values."""
    listed = before.name in ledger.alleles, now.name in space.alleles
    return before.size == now.size and (all(listed) or (not any(listed) and before.choices == now.choices))
