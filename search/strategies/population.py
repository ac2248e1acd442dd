"""The candidates that may become parents: their survival, and the choice among them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluators.base import Evaluation
from operators.selection import Selection, rank, tournament
from search.problem import Problem


@dataclass(frozen=True, eq=False)
class Member:
    """What is kept of an evaluation: objective values ``(m,)`` to be minimised, its violation, and its arrays
    per locus.
    """

    id: int
    genome: np.ndarray
    values: np.ndarray
    violation: float
    statistics: dict[str, np.ndarray]


class Population:
    """A limited number of members. What is told waits until a parent is wanted, so that one selection serves
    many results.

    Candidates that failed, were pruned or have a value that is not finite are left out.

    Args:
        problem: gives values and violations.
        size: members at most; None: as many as suit what was told so far, see :attr:`size`.
        selection: of survivors.
        rng: of the strategy.
    """

    def __init__(
        self, problem: Problem, size: int | None, selection: Selection, rng: np.random.Generator
    ) -> None:
        self.problem, self.selection, self.rng = problem, selection, rng
        self._size, self._told = size, 0
        self.members: list[Member] = []
        self._waiting: list[Member] = []

    @property
    def size(self) -> int:
        """Members at most. Where it was left open: with several objectives 64, since a front is to find room;
        with one twice the root of the results so far, and 16 at least, so that few evaluations are not spent
        on many mediocre parents, and many not on cousins. [O]
        """
        if self._size is not None:
            return self._size
        return 64 if len(self.problem.objectives) > 1 else max(16, round(2 * math.sqrt(self._told)))

    def tell(self, evaluations: Iterable[Evaluation]) -> None:
        """Take in results; the outcome does not depend on how they are divided among calls."""
        for evaluation in evaluations:
            self._told += 1
            values = self.problem.values([evaluation])[0]
            violation = float(self.problem.violations([evaluation])[0])
            if np.isfinite(values).all() and np.isfinite(violation):
                candidate = evaluation.candidate
                statistics = {
                    name: array
                    for name, array in evaluation.arrays.items()
                    if array.shape == candidate.genome.shape
                }
                self._waiting.append(Member(candidate.id, candidate.genome, values, violation, statistics))
            # at fixed counts, so that the outcome does not depend on how many were told at once
            if len(self._waiting) >= self.size:
                self._survive()

    def state(self) -> dict[str, Any]:
        """Return members and those who wait, in their order, and how many results there were."""
        return {"members": _plain(self.members), "waiting": _plain(self._waiting), "told": self._told}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.members, self._waiting = _members(state["members"]), _members(state["waiting"])
        self._told = state["told"]
        if self.members:
            self._rank()

    @property
    def ids(self) -> set[int]:
        """Of all that may still be chosen."""
        return {member.id for member in (*self.members, *self._waiting)}

    def choose(self, n: int, size: int) -> list[Member]:
        """Return the best members of `n` tournaments among `size` each; none where there are no members."""
        if self._waiting:
            self._survive()
        if not self.members:
            return []
        winners = tournament(self._ranks, self._crowding, self._violation, n, self.rng, size)
        return [self.members[row] for row in winners]

    def _survive(self) -> None:
        everyone, self._waiting = self.members + self._waiting, []
        values, violation = np.stack([m.values for m in everyone]), np.array([m.violation for m in everyone])
        survivors = np.sort(self.selection(values, violation, self.size, self.rng))
        self.members = [everyone[row] for row in survivors]
        self._rank()

    def _rank(self) -> None:
        self._violation = np.array([m.violation for m in self.members])
        self._ranks, self._crowding = rank(np.stack([m.values for m in self.members]), self._violation)


def _plain(members: Sequence[Member]) -> dict[str, Any]:
    """Return members as arrays, a row each; of statistics, which not all of them have, those that have it."""
    names = sorted({name for member in members for name in member.statistics})
    having = {name: [m for m in members if name in m.statistics] for name in names}
    return {
        "ids": [m.id for m in members],
        "genomes": np.array([m.genome for m in members]),
        "values": np.array([m.values for m in members]),
        "violations": [m.violation for m in members],
        "statistics": {
            name: {"ids": [m.id for m in some], "rows": [m.statistics[name] for m in some]}
            for name, some in having.items()
        },
    }


def _members(state: Mapping[str, Any]) -> list[Member]:
    statistics: dict[int, dict[str, np.ndarray]] = {id: {} for id in state["ids"]}
    for name, held in state["statistics"].items():
        for id, row in zip(held["ids"], held["rows"], strict=True):
            statistics[id][name] = row
    columns = (state["ids"], state["genomes"], state["values"], state["violations"])
    return [Member(*row, statistics[row[0]]) for row in zip(*columns, strict=True)]
