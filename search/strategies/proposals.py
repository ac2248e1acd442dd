"""What a strategy is about to ask: genomes with their origin, before they have an id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from operators.base import Guide
from operators.initialisation import FromCriteria, Initialisation, UniformBudget
from search.problem import Problem
from spaces.base import Space


@dataclass(frozen=True, eq=False)
class Proposal:
    """A genome ``(length,)``, the candidates it descends from, and the operators it came from, joined by
    ``+``.
    """

    genome: np.ndarray
    parents: tuple[int, ...] = ()
    operator: str = "sample"


Draw = Callable[[int], list[Proposal]]
"""Gives that many new proposals, at random."""


def default_initialisation(space: Space, guide: Guide) -> Initialisation:
    """Return what a search begins with by default: from criteria where there are scores, else random genomes
    of all sizes.
    """
    scored = any(entry.ndim == 1 for entry in guide.values())
    return FromCriteria() if scored and (space.choices == 2).any() else UniformBudget()


def initial(problem: Problem, initialisation: Initialisation | None, rng: np.random.Generator) -> Draw:
    """Return the draw that a search begins with."""
    chosen = initialisation or default_initialisation(problem.space, problem.guide)

    def draw(n: int) -> list[Proposal]:
        genomes = chosen(problem.space, n, problem.guide, rng)
        return [Proposal(genome, operator=type(chosen).__name__) for genome in genomes]

    return draw
