"""What a run is about, kept as a note in its ledger, so that the view, the report and the table need no
model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from evaluators.base import Evaluator
from search.problem import Constraint, Objective, Problem
from search.record.ledger import Ledger
from spaces.base import Space, Trained
from spaces.errors import InputError

if TYPE_CHECKING:
    from search.strategy import SearchStrategy

NOTE = "about"


@dataclass(frozen=True)
class About:
    """Name, goals, base model and what the space says of itself; everything is plain data.

    Attributes:
        name: of the run.
        objectives: ``metric`` and ``maximise`` of each.
        constraints: ``metric``, ``relation``, ``bound`` and ``relative`` of each, beside its ``text``, and
            its ``limit`` in the metric's unit.
        base: metrics of the base model, empty where there is none.
        labels: segment of one locus -> what a person reads for each allele; segments of keep bits are not in
            it.
        space: what ``space.report()`` says (groups, frozen axes with reasons), empty where the space has
            none.
        parameters: of trials: name -> distribution, as ``optuna.distributions.distribution_to_json`` writes
            it; empty for other spaces.
        monitor: metric, or sum of metrics, that a tuning strategy watched; empty for other strategies.
        edges: of a coevolution's graph, pairs of cells; its ``cells`` are their number, 0 for other
            strategies.
    """

    name: str
    objectives: list[dict[str, Any]]
    constraints: list[dict[str, Any]] = field(default_factory=list)
    base: dict[str, float] = field(default_factory=dict)
    labels: dict[str, list[Any]] = field(default_factory=dict)
    space: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    monitor: str = ""
    cells: int = 0
    edges: list[list[int]] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, problem: Problem, strategy: SearchStrategy | None = None) -> About:
        """Describe a problem, and what the strategy watches."""
        return cls(
            name,
            [asdict(objective) for objective in problem.objectives],
            [
                asdict(c) | {"text": str(c), "limit": float(c.limit(problem.base))}
                for c in problem.constraints
            ],
            {metric: float(value) for metric, value in problem.base.items()},
            _labels(problem.space),
            problem.space.report(),
            _parameters(problem.space),
            "" if strategy is None else str(strategy.monitor or ""),
            *((0, []) if strategy is None else strategy.cell_graph()),
        )

    def save(self, ledger: Ledger) -> None:
        """Keep it in the ledger; the caller commits."""
        ledger.save_note(NOTE, asdict(self))

    @classmethod
    def load(cls, ledger: Ledger) -> About:
        """Read it back.

        Raises:
            InputError: where the run has not got as far as its first candidate.
        """
        note = ledger.note(NOTE)
        if not isinstance(note, Mapping):
            raise InputError(f"{ledger.path}: this run has not begun to evaluate; expected one that has")
        return cls(**note)

    def problem(self) -> Problem:
        """Return the goals as a problem, for fronts and violations. It has neither space nor evaluator."""
        objectives = tuple(Objective(**objective) for objective in self.objectives)
        constraints = tuple(
            Constraint(*(c[key] for key in ("metric", "relation", "bound", "relative")))
            for c in self.constraints
        )
        return Problem(cast(Space, None), cast(Evaluator, None), objectives, constraints, dict(self.base))


def _parameters(space: Space) -> dict[str, str]:
    if not isinstance(space, Trained):
        return {}
    from optuna.distributions import distribution_to_json

    return {name: distribution_to_json(distribution) for name, distribution in space.distributions.items()}


def _labels(space: Space) -> dict[str, list[Any]]:
    """Ask the space to describe every allele of the segments that hold one choice, where they are no keep
    bits.
    """
    labels: dict[str, list[Any]] = {}
    genome = space.sample(1, np.random.default_rng(0))[0]
    for segment in space.segments:
        if segment.size != 1:
            continue
        variants = np.repeat(genome[None], segment.choices, axis=0)
        variants[:, space.slices[segment.name]] = np.arange(segment.choices, dtype=np.uint8)[:, None]
        texts = [space.describe(variant).get(segment.name) for variant in variants]
        if None not in texts and (segment.choices > 2 or texts != [0, 1]):
            labels[segment.name] = texts
    return labels
