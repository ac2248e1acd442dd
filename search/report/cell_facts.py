"""What the report tells of a coevolution: its cells over time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from evaluators.base import Evaluation
from search.record.about import About
from search.record.finals import PICTURES, load_finals
from search.record.ledger import Ledger

_ARCHITECTURE = "architecture/"
"""Begins the names of the segments with which :class:`spaces.MixedPairs` says which encoder and which decoder
a pair has.
"""


@dataclass(eq=False)
class CellFacts:
    """A coevolution in numbers.

    Attributes:
        count: of the cells.
        objective: the metric that is drawn.
        segments: name and size of each that has units or weights.
        choices: ``encoder`` and ``decoder`` -> how many architectures there are; empty where there is one of
            each.
        values: (step, cell) -> the objective.
        kept: step -> kept shares of every segment, ``(segments,)`` a cell, nan in those of architectures that
            the cell does not have.
        whole: step -> the share of all parameters that are alive, one a cell; where masks do not persist
            those that are not 0.
        chosen: (step, cell) -> the numbers of its architectures, in the order of `choices`.
        events: (step, cell, what was done) where more was done than to train.
        pictures: candidate -> ``inputs`` and ``outputs``, each ``(samples, ...)``, in the order of the
            exported members.
    """

    count: int
    objective: str
    segments: list[tuple[str, int]]
    choices: dict[str, int] = field(default_factory=dict)
    values: dict[tuple[int, int], float] = field(default_factory=dict)
    kept: dict[int, list[np.ndarray]] = field(default_factory=dict)
    whole: dict[int, list[float]] = field(default_factory=dict)
    chosen: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)
    events: list[tuple[int, int, str]] = field(default_factory=list)
    pictures: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)

    @classmethod
    def empty(cls, about: About, ledger: Ledger) -> CellFacts | None:
        """Begin to gather; None where the run is no coevolution."""
        if not about.cells:
            return None
        halves = [s for s in ledger.segments if s.name.startswith(_ARCHITECTURE)]
        choices = {s.name.removeprefix(_ARCHITECTURE): s.size for s in halves}
        facts = cls(
            about.cells,
            about.objectives[0]["metric"],
            [(s.name, s.size) for s in ledger.segments if s not in halves],
            choices,
        )
        starts = dict(
            zip(
                (s.name for s in ledger.segments),
                np.cumsum([0, *(s.size for s in ledger.segments)]).tolist(),
                strict=False,
            )
        )
        facts._slices = {s.name: slice(starts[s.name], starts[s.name] + s.size) for s in ledger.segments}
        drawn = {
            int(name.removeprefix(PICTURES)): arrays for name, arrays in ledger.named_arrays(PICTURES).items()
        }
        facts.pictures = {final.id: drawn[final.id] for final in load_finals(ledger) if drawn.get(final.id)}
        return facts

    def add(self, evaluation: Evaluation) -> None:
        """Take in a cell step."""
        step, cell = divmod(evaluation.candidate.id, self.count)
        self.values[step, cell] = evaluation.metrics.get(self.objective, np.nan)
        genome = evaluation.candidate.genome
        chosen = {half: int(genome[self._slices[_ARCHITECTURE + half]].argmax()) for half in self.choices}
        idle = tuple(
            f"{half}{i}/" for half, count in self.choices.items() for i in range(count) if i != chosen[half]
        )
        kept = [
            np.nan if name.startswith(idle) else float(genome[self._slices[name]].mean())
            for name, _ in self.segments
        ]
        self.kept.setdefault(step, []).append(np.array(kept))
        self.whole.setdefault(step, []).append(evaluation.metrics.get("kept", np.nan))
        self.chosen[step, cell] = tuple(chosen.values())
        if evaluation.candidate.operator not in ("init", "train"):
            self.events.append((step, cell, evaluation.candidate.operator.removeprefix("train+")))

    _slices: dict[str, slice] = field(default_factory=dict, repr=False)

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
        """Return the mean kept share over the cells that have the segment, float64 ``(segments, steps)``, nan
        where none has it.
        """
        shares = np.full((len(self.segments), self.steps), np.nan)
        for step, rows in self.kept.items():
            table = np.array(rows)
            there = np.isfinite(table)
            np.divide(
                np.where(there, table, 0).sum(axis=0),
                there.sum(axis=0),
                out=shares[:, step],
                where=there.any(axis=0),
            )
        return shares

    def total(self) -> np.ndarray:
        """Return the mean share of all parameters that are alive, float64 ``(steps,)``."""
        return np.array(
            [np.mean(self.whole[step]) if step in self.whole else np.nan for step in range(self.steps)]
        )

    @property
    def regrows(self) -> bool:
        """Whether masks did not persist: then genomes stay whole, whatever is pruned, and their shares say
        nothing.
        """
        return bool((self.total() < 1).any()) and all(
            not (row < 1).any() for rows in self.kept.values() for row in rows
        )

    def architectures(self) -> dict[str, np.ndarray]:
        """Return the number of cells that have each architecture, ``encoder 0`` and so on, int64 ``(steps,)``
        each; for several only.
        """
        counts = {
            half: np.zeros((count, self.steps), dtype=np.int64)
            for half, count in self.choices.items()
            if count > 1
        }
        for (step, _), chosen in self.chosen.items():
            for half, number in zip(self.choices, chosen, strict=True):
                if half in counts:
                    counts[half][number, step] += 1
        return {f"{half} {number}": row for half, table in counts.items() for number, row in enumerate(table)}
