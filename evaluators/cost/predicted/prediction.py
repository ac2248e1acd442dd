"""Latency of whole populations by arithmetic on kept counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from evaluators.cost.predicted.fit import REST, Error
from evaluators.cost.predicted.runtime import Took
from evaluators.cost.predicted.sizes import AxisSizes
from evaluators.cost.predicted.table import Place, Table
from spaces.channels.plan import SlicePlan

FORMAT = 2


class Use(NamedTuple):
    """Where a network has an operation.

    Attributes:
        axes: numbers in :class:`AxisSizes`, one a width of the table.
        gate: locus of the block that it is in, -1 where it always is there.
    """

    axes: tuple[int, ...]
    gate: int = -1


@dataclass(frozen=True)
class Group:
    """Operations of a network that share a table.

    Attributes:
        kind: of the operations.
        table: their milliseconds by widths.
        uses: each of them.
    """

    kind: str
    table: Table
    uses: tuple[Use, ...]

    @property
    def columns(self) -> tuple[str, str]:
        """Names of what is fitted: their work, and their layout."""
        return f"{self.kind} work", f"{self.kind} layout"

    def adder(self, factors: Sequence[float]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """Return a function of axis sizes ``(axes, n)`` and genomes that gives the milliseconds of all uses,
        ``(n,)``; work and layout times their factors.
        """
        look_up = self.table.look_up(factors)
        axes = np.array([use.axes for use in self.uses], dtype=np.int64).reshape(len(self.uses), -1).T
        gates = np.array([use.gate for use in self.uses])
        gated = np.flatnonzero(gates >= 0)

        def added(sizes: np.ndarray, genomes: np.ndarray) -> np.ndarray:
            widths = sizes[axes].reshape(len(axes), len(gates) * len(genomes))
            took = look_up(widths).reshape(len(gates), len(genomes))
            if len(gated):
                took[gated] *= genomes[:, gates[gated]].T
            return np.asarray(took.sum(axis=0))

        return added


@dataclass(frozen=True)
class Prediction:
    """Milliseconds of a network for what a genome keeps.

    Attributes:
        groups: its operations.
        rest: milliseconds of what is not among them, by itself.
        factors: by column of the fit.
        error: on networks that the fit has not seen.
    """

    groups: tuple[Group, ...]
    rest: float
    factors: Mapping[str, float]
    error: Error

    def bound(self, plan: SlicePlan) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function of keep bits ``(n, length)`` that gives milliseconds, float64 ``(n,)``."""
        sizes = AxisSizes(plan)
        adders = [
            group.adder([self.factors.get(name, 0.0) for name in group.columns]) for group in self.groups
        ]
        rest = self.rest * self.factors.get(REST, 0.0)

        def predicted(genomes: np.ndarray) -> np.ndarray:
            kept, total = sizes(genomes), np.full(len(genomes), rest)
            for adder in adders:
                total += adder(kept, genomes)
            return total

        return predicted

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        groups = [
            {
                "kind": group.kind,
                "largest": list(group.table.largest),
                "measured": [[*place, *took] for place, took in group.table.measured.items()],
                "uses": [[list(use.axes), use.gate] for use in group.uses],
            }
            for group in self.groups
        ]
        error = {"median": self.error.median, "p90": self.error.p90}
        return {
            "format": FORMAT,
            "rest": self.rest,
            "factors": dict(self.factors),
            "error": error,
            "groups": groups,
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Prediction:
        """Return what :meth:`to_json` gave; raises KeyError, TypeError or ValueError for anything else."""
        if told["format"] != FORMAT:
            raise ValueError(f"format {told['format']}; expected {FORMAT}")
        groups = []
        for one in told["groups"]:
            d = len(one["largest"])
            known = {tuple(map(int, row[:d])): Took(*map(float, row[d:])) for row in one["measured"]}
            uses = tuple(Use(tuple(map(int, axes)), int(gate)) for axes, gate in one["uses"])
            groups.append(
                Group(
                    str(one["kind"]),
                    Table(one["largest"], partial(_known, known)),
                    uses,
                )
            )
        factors = {str(name): float(factor) for name, factor in told["factors"].items()}
        error = Error(float(told["error"]["median"]), float(told["error"]["p90"]))
        return cls(tuple(groups), float(told["rest"]), factors, error)


def _known(took: Mapping[Place, Took], places: Sequence[Place]) -> list[Took]:
    return [took[place] for place in places]
