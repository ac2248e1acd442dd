"""What a strategy is about to ask: genomes with their origin, before they have an id."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from operators.initialisation import Initialisation, default_initialisation
from search.problem import Problem


@dataclass(frozen=True, eq=False)
class Proposal:
    """A genome ``(length,)``, the candidates it descends from, and the operators it came from, joined by
    ``+``.
    """

    genome: np.ndarray
    parents: tuple[int, ...] = ()
    operator: str = "sample"


def stacked(genomes: Iterable[np.ndarray], length: int) -> np.ndarray:
    """Return genomes as one array ``(n, length)``, also where there are none."""
    return np.array([*genomes], dtype=np.uint8).reshape(-1, length)


def proposals_state(proposals: Collection[Proposal], length: int) -> dict[str, Any]:
    """Return proposals as plain data."""
    return {
        "genomes": stacked((p.genome for p in proposals), length),
        "parents": [list(p.parents) for p in proposals],
        "operators": [p.operator for p in proposals],
    }


def proposals_of(state: Mapping[str, Any]) -> list[Proposal]:
    """Return the proposals of :func:`proposals_state`."""
    rows = zip(state["genomes"], state["parents"], state["operators"], strict=True)
    return [Proposal(genome, tuple(parents), operator) for genome, parents, operator in rows]


Draw = Callable[[int], list[Proposal]]
"""Gives that many new proposals, at random."""


def initial(problem: Problem, initialisation: Initialisation | None, rng: np.random.Generator) -> Draw:
    """Return the draw that a search begins with."""
    chosen = initialisation or default_initialisation(problem.space, problem.guide)

    def draw(n: int) -> list[Proposal]:
        genomes = chosen(problem.space, n, problem.guide, rng)
        return [Proposal(genome, operator=type(chosen).__name__) for genome in genomes]

    return draw
