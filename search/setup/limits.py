"""Whether what is asked can be had at all: metrics that an evaluator computes, limits that some candidate
keeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluators.base import Candidate, Evaluator
from evaluators.cost.evaluator import COSTS, smallest
from evaluators.data.base import Data
from evaluators.data.task import Classification, Regression
from search.numbers import number
from search.problem import Constraint, Objective
from spaces.base import Space
from spaces.errors import InputError

_SAMPLES = 256


@dataclass(frozen=True)
class Attainable:
    """What a constraint asks for and what the space can give.

    Attributes:
        constraint: as asked.
        limit: in the metric's own unit.
        extreme: the smallest (for ``<=``) or largest value of the metric that was found in the space.
        base: value of the base model, None where there is none.
    """

    constraint: Constraint
    limit: float
    extreme: float
    base: float | None

    @property
    def met(self) -> bool:
        """Whether the extreme keeps the limit."""
        return self.extreme <= self.limit if self.constraint.relation == "<=" else self.extreme >= self.limit

    def __str__(self) -> str:
        word = "smallest" if self.constraint.relation == "<=" else "largest"
        share = (
            f" ({self.extreme / self.base:.3g} of the base model's {number(self.base)})" if self.base else ""
        )
        return f"the {word} reachable {self.constraint.metric} is {number(self.extreme)}{share}"


def check_metrics(
    evaluator: Evaluator, objectives: Sequence[Objective], constraints: Sequence[Constraint], space: Space
) -> None:
    """See that every objective and constraint is on a metric that the evaluator gives.

    Raises:
        InputError: naming the metrics that there are; a metric twice among the objectives; a relative limit
            without a base model.
    """
    there = tuple(dict.fromkeys((*evaluator.screened, *evaluator.metrics)))
    for place, goals in (("objectives", objectives), ("constraints", constraints)):
        for goal in goals:
            if goal.metric not in there:
                classes = goal.metric in Classification.metric_names
                hint = "; targets are floats, classes would be integers" * (
                    classes and {*Regression.metric_names} <= {*there}
                )
                raise InputError(
                    f"{place}: {str(goal)!r}: no evaluator computes {goal.metric!r}; there are "
                    f"{', '.join(there)}{hint}"
                )
    metrics = [objective.metric for objective in objectives]
    for metric in metrics:
        if metrics.count(metric) > 1:
            raise InputError(f"objectives: {metric!r} stands there twice; expected each metric once")
    for constraint in constraints:
        if constraint.relative and space.base is None:
            raise InputError(
                f"constraints: '{constraint}': {type(space).__name__} has no base model to take a share of; "
                f"expected a limit without %"
            )


def attainable(
    space: Space,
    data: Data | None,
    evaluator: Evaluator,
    constraints: Sequence[Constraint],
    base: Mapping[str, float],
) -> list[Attainable]:
    """Return what can be reached, for every constraint on a metric that needs no evaluation, and on those
    that need no training, such as measured latency.

    Args:
        base: metrics of the base model, as far as they are known; a relative limit on another metric is left
            out.
    """
    found = []
    genomes = _corners(space)
    screened = evaluator.screen(genomes)
    for constraint in constraints:
        name, below = constraint.metric, constraint.relation == "<="
        if constraint.relative and name not in base:
            continue
        if name in screened:
            values = [float(value) for value in screened[name]]
            values += [smallest(space, data)[name]] if below and name in COSTS else []
        elif below and (part := _measuring(evaluator, name)) is not None:
            values = [_measured(part, space, genomes[0], name)]
        else:
            continue
        found.append(
            Attainable(
                constraint, constraint.limit(base), min(values) if below else max(values), base.get(name)
            )
        )
    return found


def check_attainable(found: Sequence[Attainable]) -> None:
    """Refuse limits that cannot be kept.

    Raises:
        InputError: with the smallest (largest) reachable figure.
    """
    for reach in found:
        if not reach.met:
            raise InputError(
                f"constraints: '{reach.constraint}' (a limit of {number(reach.limit)}) cannot be reached: "
                f"{reach}"
            )


def _corners(space: Space) -> np.ndarray:
    """The smallest and the largest genome, the base, and random ones: ``(n, length)``."""
    corners = [np.zeros(space.length, dtype=np.uint8), (space.choices - 1).astype(np.uint8)]
    if space.base is not None:
        corners.append(space.base)
    return np.concatenate(
        [
            space.repair(np.stack(corners)),
            space.sample(_SAMPLES if (space.choices == 2).all() else 16, np.random.default_rng(0)),
        ]
    )


def _measuring(evaluator: Evaluator, name: str) -> Evaluator | None:
    return next((part for part in evaluator.parts if name in part.structural), None)


def _measured(part: Evaluator, space: Space, genome: np.ndarray, name: str) -> float:
    *_, report = part.evaluate(space.build(genome), Candidate(-1, genome))
    return float(report.metrics[name])
