"""What the report tells of a coevolution: its cells over time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from evaluators.base import Evaluation
from search.about import About
from search.finals import PICTURES
from search.ledger import Ledger


@dataclass(eq=False)
class CellFacts:
    """A coevolution in numbers.

    Attributes:
        count: of the cells.
        objective: the metric that is drawn.
        segments: name and size of each.
        values: (step, cell) -> the objective.
        kept: step -> kept shares of every segment, ``(segments,)`` a cell.
        events: (step, cell, what was done) where more was done than to train.
        pictures: candidate -> ``inputs`` and ``outputs``, each ``(samples, ...)``.
    """

    count: int
    objective: str
    segments: list[tuple[str, int]]
    values: dict[tuple[int, int], float] = field(default_factory=dict)
    kept: dict[int, list[np.ndarray]] = field(default_factory=dict)
    events: list[tuple[int, int, str]] = field(default_factory=list)
    pictures: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)

    @classmethod
    def empty(cls, about: About, ledger: Ledger) -> CellFacts | None:
        """Begin to gather; None where the run is no coevolution."""
        if not about.cells:
            return None
        facts = cls(about.cells, about.objectives[0]["metric"], [(segment.name, segment.size) for segment in ledger.segments])
        facts._starts = np.cumsum([0, *(size for _, size in facts.segments)])[:-1]
        facts.pictures = {int(name.removeprefix(PICTURES)): arrays for name, arrays in ledger.named_arrays(PICTURES).items()}
        return facts

    def add(self, evaluation: Evaluation) -> None:
        """Take in a cell step."""
        step, cell = divmod(evaluation.candidate.id, self.count)
        self.values[step, cell] = evaluation.metrics.get(self.objective, np.nan)
        kept = np.add.reduceat(evaluation.candidate.genome.astype(np.int64), self._starts)
        self.kept.setdefault(step, []).append(kept / [size for _, size in self.segments])
        if evaluation.candidate.operator not in ("init", "train"):
            self.events.append((step, cell, evaluation.candidate.operator.removeprefix("train+")))

    _starts: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64), repr=False)

    @property
    def steps(self) -> int:
        """Number of steps, the first pairs included."""
        return 1 + max((step for step, _ in self.values), default=-1)

    def grid(self) -> np.ndarray:
        """Return the objective, float64 ``(cells, steps)``, nan where a step is missing."""
        grid = np.full((self.count, self.steps), np.nan)
        for (step, cell), value in self.values.items():
            grid[cell, step] = value
        return grid

    def shares(self) -> np.ndarray:
        """Return the mean kept share over the cells, float64 ``(segments, steps)``."""
        empty = np.full(len(self.segments), np.nan)
        return np.array([np.mean(self.kept[step], axis=0) if step in self.kept else empty for step in range(self.steps)]).T
