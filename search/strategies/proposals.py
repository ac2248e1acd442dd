"""What a strategy is about to ask: genomes with their origin, before they have an id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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


Draw = Callable[[int], list[Proposal]]
"""Gives that many new proposals, at random."""


def initial(problem: Problem, initialisation: Initialisation | None, rng: np.random.Generator) -> Draw:
    """Return the draw that a search begins with."""
    chosen = initialisation or default_initialisation(problem.space, problem.guide)

    def draw(n: int) -> list[Proposal]:
        genomes = chosen(problem.space, n, problem.guide, rng)
        return [Proposal(genome, operator=type(chosen).__name__) for genome in genomes]

    return draw
