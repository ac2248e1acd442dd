"""What became of the chosen members of a front: plain data, kept as notes in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from search.problem import Problem
from search.record.about import About
from search.record.ledger import Ledger

BASE = -1
"""The id of the base model among the finals: no candidate has it."""
CHOSEN = "finals"
UNTUNED = "not tuned"
"""The settings of the fine-tuning where there was none."""
PICTURES = "reconstructions/"
"""Begins the names of arrays in the ledger, followed by the candidate whose outputs they are."""
_FINAL, _ASIDE = "final/", "finished/"
"""Begin the names of notes: of a candidate as it was finished last; of models that other settings, or another
candidate of the same number, left, followed by the folder.
"""


@dataclass(frozen=True)
class Limit:
    """A constraint held against what was exported."""

    text: str
    bound: float
    value: float
    met: bool


@dataclass(frozen=True)
class Final:
    """A member of the front (or the base model) after fine-tuning, measured and exported.

    Attributes:
        id: of the candidate; :data:`BASE` for the base model.
        searched: metrics that the search had of it.
        test: on the test split, which the search never saw: ``test_error_before`` fine-tuning, ``test_error``
            after it, and so on.
        requested: params, MACs, bytes and latency as the search computed them.
        realised: the same as counted on the exported model, and as measured ``latency_ms`` (as the search
            means it, torch where it does not look at it; none where the search's runtime is not here),
            ``torch_latency_ms`` beside it where the search does, and ``onnx_latency_ms``.
        limits: the constraints, held against what was realised.
        differences: ``before`` and ``after`` fine-tuning: largest relative difference of the compact model to
            the masked full one.
        onnx: what is known of the ONNX file (see :class:`search.finish.recipe.Recipe`).
        folder: of the exported files, relative to the run's; empty where nothing was exported.
        reason: why there is no model; empty where there is one.
        settings: of the fine-tuning: other settings make another final.
        tuned: what the search would have of it now: metrics on the search split after the fine-tuning; empty
            where an older version finished it.
        int8: what is known of the int8 file: ``file``, ``bytes`` and ``float_bytes``, ``test`` (as above),
            ``latency_ms`` and ``float_latency_ms`` in onnxruntime, names of the layers ``kept_float`` of so
            many ``layers``, ``difference`` of the outputs to the float file's, ``reduce_range`` (weights of 7
            bits), ``processor``; or ``missing`` with the reason. Empty where it was not asked for.
        earlier: whether it is not of the latest choice, and stays because no finished model dominates it.
    """

    id: int
    searched: dict[str, float]
    test: dict[str, float] = field(default_factory=dict)
    requested: dict[str, float] = field(default_factory=dict)
    realised: dict[str, float] = field(default_factory=dict)
    limits: list[Limit] = field(default_factory=list)
    differences: dict[str, float] = field(default_factory=dict)
    onnx: dict[str, Any] = field(default_factory=dict)
    folder: str = ""
    reason: str = ""
    settings: str = ""
    tuned: dict[str, float] = field(default_factory=dict)
    int8: dict[str, Any] = field(default_factory=dict)
    earlier: bool = False

    @property
    def was_tuned(self) -> bool:
        """Whether there was a fine-tuning, or another training."""
        return self.settings != UNTUNED

    @property
    def int8_figures(self) -> dict[str, float]:
        """What was measured of the int8 file, in one table: ``int8_test_error``, ..., ``int8_bytes`` and
        ``int8_latency_ms``; empty where there is none.
        """
        if "file" not in self.int8:
            return {}
        figures = {**self.int8["test"], **{name: self.int8[name] for name in ("bytes", "latency_ms")}}
        return {f"int8_{name}": value for name, value in figures.items()}

    @property
    def name(self) -> str:
        """For people; it tells models of one candidate that were tuned in different ways apart."""
        if self.id == BASE:
            return "base model"
        own = PurePosixPath(self.folder).name
        return f"candidate {self.id}" + (f" ({own})" if own not in ("", str(self.id)) else "")

    def save(self, ledger: Ledger) -> None:
        """Keep it in the ledger as what the candidate became last; the caller commits."""
        ledger.save_note(f"{_FINAL}{self.id}", asdict(replace(self, earlier=False)))

    def forget(self, ledger: Ledger) -> None:
        """Take it out of the ledger as what the candidate became last; the caller commits."""
        ledger.save_note(f"{_FINAL}{self.id}", None)

    def put_aside(self, ledger: Ledger) -> None:
        """Keep it in the ledger beside what the candidate becomes from now on; the caller commits."""
        ledger.save_note(f"{_ASIDE}{self.folder}", asdict(replace(self, earlier=False)))

    def drop(self, ledger: Ledger) -> None:
        """Take it out of those that are put aside; the caller commits."""
        ledger.save_note(f"{_ASIDE}{self.folder}", None)

    @classmethod
    def load(cls, ledger: Ledger, id: int) -> Final | None:
        """Return what a candidate became last, None where nothing is known."""
        return cls._of(ledger.note(f"{_FINAL}{id}"))

    @classmethod
    def aside(cls, ledger: Ledger) -> list[Final]:
        """Return those that are put aside, by their folders."""
        notes = ledger.notes(_ASIDE)
        return [final for folder in sorted(notes) if (final := cls._of(notes[folder])) is not None]

    @classmethod
    def _of(cls, note: dict[str, Any] | None) -> Final | None:
        if note is None:
            return None
        return cls(**(note | {"limits": [Limit(**limit) for limit in note["limits"]]}))


def load_finals(ledger: Ledger) -> list[Final]:
    """Return the base model and the members chosen last, in the order in which they were chosen, as far as
    they are done; among them, by the first objective, the finished models of earlier calls that no finished
    model dominates.
    """
    chosen = ledger.note(CHOSEN) or []
    finals = [final for id in chosen if (final := Final.load(ledger, id)) is not None]
    models = finished(ledger)
    here = {final.folder for final in finals}
    if not any(final.folder not in here for final in models):
        return finals
    problem = About.load(ledger).problem()
    for final, better in zip(models, dominators(models, problem), strict=True):
        if better is None and final.folder not in here:
            finals.insert(_place(finals, final, problem), replace(final, earlier=True))
    return finals


def disown(ledger: Ledger, id: int) -> None:
    """Put aside what a candidate became whose id another candidate is about to have; the caller commits."""
    if (final := Final.load(ledger, id)) is not None:
        if final.folder:
            replace(final, settings=f"of another candidate; {final.settings}").put_aside(ledger)
        final.forget(ledger)


def finished(ledger: Ledger) -> list[Final]:
    """Return all models that were tuned and exported in the life of a run, the first candidate first."""
    latest = (Final._of(note) for note in ledger.notes(_FINAL).values())
    found = [final for final in (*latest, *Final.aside(ledger)) if final is not None and final.folder]
    return sorted(found, key=lambda final: (final.id, len(final.folder), final.folder))


def dominators(finals: Sequence[Final], problem: Problem) -> list[Final | None]:
    """Return for every finished model one that dominates it and that none dominates; None where no model
    does.

    What counts are the objectives on the search split after the fine-tuning, and how far the constraints are
    violated then: one model dominates another where it is worse in none of these and better in one.

    Args:
        finals: all that were finished.
        problem: gives objectives and constraints.
    """
    if not finals:
        return []
    values = _values(finals, problem)
    no_worse = np.all(values[:, None] <= values[None], axis=2)
    better = np.asarray(no_worse & np.any(values[:, None] < values[None], axis=2))  # row dominates column
    standing = ~better.any(axis=0)
    found: list[Final | None] = []
    for column in range(len(finals)):
        rows = np.flatnonzero(better[:, column] & standing)
        found.append(finals[int(rows[0])] if len(rows) else None)
    return found


def objectives_of(metrics: dict[str, float], problem: Problem) -> dict[str, float]:
    """Return those of the metrics that are objectives."""
    return {o.metric: metrics[o.metric] for o in problem.objectives if o.metric in metrics}


def _values(finals: Sequence[Final], problem: Problem) -> np.ndarray:
    """Return objectives to be minimised and the violation, ``(finals, objectives + 1)``.

    Where a figure is not known there is nan, which neither dominates nor is dominated.
    """
    rows = []
    for final in finals:
        metrics = final.searched | final.tuned
        row = [(-1 if o.maximise else 1) * metrics.get(o.metric, np.nan) for o in problem.objectives]
        excess = problem.violation({name: np.array([value]) for name, value in metrics.items()})
        rows.append([*row, float(excess[0]) if len(excess) else 0.0])
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(problem.objectives) + 1)


def _place(finals: Sequence[Final], final: Final, problem: Problem) -> int:
    """Return where a model stands among others: before the first that is worse in the first objective."""
    own = _values([final], problem)[0, 0]
    for place, value in enumerate(_values(finals, problem)[:, 0]):
        if finals[place].id != BASE and value > own:
            return place
    return len(finals)
