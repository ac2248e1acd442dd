"""What is asked of a search: objectives, constraints, and what they say of evaluations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from evaluators.base import Evaluation, Evaluator, State
from spaces.base import Space
from spaces.errors import InputError

_CONSTRAINT = re.compile(r"^\s*([\w./-]+)\s*(<=|>=)\s*([-+0-9.eE]+)\s*(%?)\s*$")


@dataclass(frozen=True)
class Objective:
    """A metric to minimise (or to maximise)."""

    metric: str
    maximise: bool = False

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read ``"macs"``, ``"min macs"`` or ``"max accuracy"``."""
        words = text.split()
        if len(words) == 1:
            return cls(words[0])
        if len(words) == 2 and words[0] in ("min", "max"):
            return cls(words[1], words[0] == "max")
        raise InputError(f"objective {text!r}: expected a metric, 'min METRIC' or 'max METRIC'")

    def __str__(self) -> str:
        return f"max {self.metric}" if self.maximise else self.metric


@dataclass(frozen=True)
class Constraint:
    """A metric with a bound. A relative bound is in percent of the base model's value."""

    metric: str
    relation: str
    bound: float
    relative: bool = False

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Read ``"macs <= 50%"``, ``"latency_ms <= 3"`` or ``"accuracy >= 95%"``."""
        match = _CONSTRAINT.match(text)
        try:
            if match is None:
                raise ValueError
            return cls(match[1], match[2], float(match[3]), match[4] == "%")
        except ValueError:
            raise InputError(
                f"constraint {text!r}: expected 'METRIC <= NUMBER' or 'METRIC >= NUMBER', the number with % "
                f"for a share of the base model's"
            ) from None

    def limit(self, base: Mapping[str, float]) -> float:
        """The bound in the metric's own unit."""
        return self.bound / 100 * base[self.metric] if self.relative else self.bound

    def excess(self, values: np.ndarray | float, base: Mapping[str, float]) -> np.ndarray:
        """By how much values pass the bound, as a share of it; 0 for those that do not."""
        limit = self.limit(base)
        value = np.asarray(values, dtype=np.float64)
        excess = value - limit if self.relation == "<=" else limit - value
        return np.asarray(np.maximum(excess, 0) / max(abs(limit), 1e-12))

    def __str__(self) -> str:
        return f"{self.metric} {self.relation} {self.bound:g}{'%' if self.relative else ''}"


@dataclass(eq=False)
class Problem:
    """Space, evaluator and goals together: what a strategy may know of its task.

    Attributes:
        base: metrics of the base model (empty where the space has none).
        guide: scores per locus of the base model, ``(length,)`` each, higher means keep.
        of_parent: names in `guide` of what evaluations report of every parent, too.
    """

    space: Space
    evaluator: Evaluator
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    base: dict[str, float] = field(default_factory=dict)
    guide: dict[str, np.ndarray] = field(default_factory=dict)
    of_parent: frozenset[str] = frozenset()

    def screened_base(self) -> dict[str, float]:
        """Return those metrics of the base model that need no evaluation; empty where there is none."""
        genome = self.space.base
        if genome is None:
            return {}
        return {name: float(values[0]) for name, values in self.evaluator.screen(genome[None]).items()}

    def values(self, evaluations: Sequence[Evaluation]) -> np.ndarray:
        """Objective values, all to be minimised, float64 of shape ``(n, objectives)``; inf for what did not
        complete.
        """
        rows = [
            [(-1 if o.maximise else 1) * e.metrics[o.metric] for o in self.objectives]
            if e.state is State.COMPLETE
            else [np.inf] * len(self.objectives)
            for e in evaluations
        ]
        return np.array(rows, dtype=np.float64).reshape(-1, len(self.objectives))

    def violation(self, metrics: Mapping[str, np.ndarray]) -> np.ndarray:
        """Sum of the relative excesses over the bounds of those metrics that are given, shape ``(n,)``; 0 is
        feasible.
        """
        total: np.ndarray | float = 0.0
        for constraint in self.constraints:
            if constraint.metric in metrics:
                total = total + constraint.excess(metrics[constraint.metric], self.base)
        return (
            np.broadcast_to(total, (len(next(iter(metrics.values()))),)).astype(np.float64)
            if metrics
            else np.zeros(0)
        )

    def violations(self, evaluations: Sequence[Evaluation]) -> np.ndarray:
        """Like :meth:`violation` for evaluations, shape ``(n,)``; inf for what did not complete."""
        if not self.constraints:
            return np.array([0.0 if e.state is State.COMPLETE else np.inf for e in evaluations])
        return np.array(
            [
                self.violation({name: np.array([value]) for name, value in e.metrics.items()})[0]
                if e.state is State.COMPLETE
                else np.inf
                for e in evaluations
            ],
            dtype=np.float64,
        )
