"""The front: the feasible non-dominated candidates found so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import moocore
import numpy as np

from evaluators.base import Evaluation, State
from search.problem import Problem


class Front:
    """An archive of the feasible non-dominated evaluations, kept up one evaluation at a time.

    An :meth:`add` costs time linear in the front, never in what was evaluated. Of evaluations with equal
    objective values the candidate that was asked first stays, so the front does not depend on the order in
    which results come. Arrays are let go.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._members: list[Evaluation] = []
        self._values = np.empty((0, len(problem.objectives)))

    def __len__(self) -> int:
        return len(self._members)

    @property
    def members(self) -> list[Evaluation]:
        """The evaluations, sorted by the first objective, best first."""
        return list(self._members)

    @property
    def values(self) -> np.ndarray:
        """Objective values of :attr:`members`, all to be minimised, of shape ``(n, objectives)``."""
        return self._values.copy()

    def add(self, evaluation: Evaluation) -> bool:
        """Offer an evaluation; return whether it joined the front (and so enlarged the hypervolume)."""
        if evaluation.state is not State.COMPLETE or self.problem.violations([evaluation])[0] > 0:
            return False
        values = self.problem.values([evaluation])[0]
        if not np.isfinite(values).all():
            return False
        if (no_worse := (self._values <= values).all(axis=1)).any():
            row = int(no_worse.argmax())  # the only one where it is equal
            older = evaluation.candidate.id < self._members[row].candidate.id
            if older and (self._values[row] == values).all():
                self._members[row] = replace(evaluation, arrays={})
            return False
        kept = ~(values <= self._values).all(axis=1)
        members = [member for member, keep in zip(self._members, kept, strict=True) if keep]
        remaining = self._values[kept]
        # the first objective decides, then the second and so on: a stable order for equal first values
        place = int(np.searchsorted(remaining[:, 0], values[0]))
        while place < len(members) and tuple(remaining[place]) < tuple(values):
            place += 1
        self._members = [*members[:place], replace(evaluation, arrays={}), *members[place:]]
        self._values = np.insert(remaining, place, values, axis=0)
        return True

    def beyond(self, values: np.ndarray) -> np.ndarray:
        """Return which of many points might join: bool ``(n,)``, false where a member is better in an
        objective and worse in none.

        Args:
            values: all to be minimised, ``(n, objectives)``.
        """
        found = np.isfinite(values).all(axis=1)
        for member in self._values:
            found &= (values < member).any(axis=1) | (values == member).all(axis=1)
        return found

    def hypervolume(self, reference: Sequence[float]) -> float:
        """Return the volume that the front dominates up to `reference`, in the metrics' own units.

        Args:
            reference: a value for every objective, in its own direction (a low accuracy, a high cost). [P]
                Fonseca et al. 2006, by moocore.
        """
        if not self._members:
            return 0.0
        signs = np.array([-1.0 if objective.maximise else 1.0 for objective in self.problem.objectives])
        return float(moocore.hypervolume(self._values, ref=signs * np.asarray(reference, dtype=np.float64)))


class VolumeBox:
    """The box in which the hypervolume of a run is measured. The first candidates of the run settle it, so
    the figure is the same wherever it is shown, and never falls: not within a call, nor when a run goes on.

    Its far corner has the worst values of these candidates, its near one zeros, or the best values where they
    are below zero (of what is maximised). A front beyond the near corner may have more than 1.

    Args:
        first: objective values of the first candidates that came to their end, all to be minimised, of shape
            ``(n, objectives)``.
    """

    CANDIDATES = 64
    """Candidates that settle a box."""

    def __init__(self, first: np.ndarray) -> None:
        self._reference = first.max(axis=0)
        self._size = np.maximum(self._reference - np.minimum(first.min(axis=0), 0.0), 1e-300)

    @classmethod
    def of(cls, values: np.ndarray) -> VolumeBox | None:
        """Return the box of a run, None where too few of its candidates have come to their end to settle it.

        Args:
            values: of all candidates, or of the first ones at least, in the order of arrival.
        """
        finite = values[np.isfinite(values).all(axis=1)][: cls.CANDIDATES]
        return cls(finite) if len(finite) == cls.CANDIDATES else None

    def share(self, front: np.ndarray) -> float:
        """Return the hypervolume of a front as a share of the box.

        Args:
            front: objective values of its members, all to be minimised, of shape ``(n, objectives)``.
        """
        if not len(front):
            return 0.0
        return float(moocore.hypervolume(front / self._size, ref=self._reference / self._size))
