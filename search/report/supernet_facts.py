"""What the report tells of searches of cells: the course of each, and how single cases fared."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from evaluators.base import State
from search.finish.searched_cells import CASES
from search.front import Front
from search.record.about import About
from search.record.ledger import Ledger


@dataclass(frozen=True, eq=False)
class Course:
    """One search of cells, epoch by epoch; see :func:`evaluators.supernet.record.tables` for the arrays.

    Attributes:
        removed: ``(epoch, edge, operation)``, the epoch at whose end it went.
        cases: ``before`` and ``after``, Dice overlaps ``(cases, structures)``; empty where the data are no
            segmentation.
    """

    id: int
    genotype: str
    edges: tuple[str, ...]
    operations: tuple[str, ...]
    importances: np.ndarray
    divergences: np.ndarray
    macs: np.ndarray
    memory: np.ndarray
    removed: list[tuple[int, str, str]]
    metrics: dict[str, float]
    cases: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        return len(self.macs)


def gather_courses(ledger: Ledger, about: About) -> list[Course]:
    """Return the searches of a run that came to their end, the best in the first objective first; none where
    the run was another.
    """
    front = Front(about.problem())
    found: dict[int, Course] = {}
    for _, evaluation in ledger.evaluations():
        if evaluation.state is not State.COMPLETE or "search_cost" not in evaluation.metrics:
            continue
        id = evaluation.candidate.id
        held = ledger.evaluation(id)
        if held is None or "genotype" not in held.arrays:
            continue
        front.add(evaluation)
        arrays = held.arrays
        found[id] = Course(
            id,
            str(arrays["genotype"]),
            tuple(arrays["edges"].tolist()),
            tuple(arrays["operations"].tolist()),
            arrays["importances"],
            arrays["divergences"],
            arrays["supernet_macs"],
            arrays["memory"],
            [(int(epoch), edge, name) for epoch, edge, name in arrays["removed"].tolist()],
            evaluation.metrics,
            ledger.load_arrays(f"{CASES}{id}") or {},
        )
    best = [member.candidate.id for member in front.members]
    return [found[id] for id in (*best, *(id for id in sorted(found) if id not in best))]
