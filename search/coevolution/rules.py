"""What the steps of cells have to know of a coevolution."""

from __future__ import annotations

from typing import Literal

import numpy as np

from evaluators.data.base import Split
from operators.controller import Controller
from operators.mutation.base import Mutation
from operators.schedules import Schedule
from search.coevolution.concepts import SolutionConcept
from search.coevolution.replacement import Replacement
from search.problem import Problem
from spaces.errors import InputError
from spaces.pairs.mixed import Pairs

Mates = Literal["apart", "whole", "together"]


class CellRules:
    """The settings of a :class:`~search.coevolution.Coevolution`, which says what each of them means, and
    what follows from them at a step.
    """

    steps: int
    concept: SolutionConcept
    mates: Mates
    tournament: int
    schedule: Schedule
    pruning: tuple[Mutation, ...]
    smallest: float | None
    untouched: int
    controller: Controller | None
    tolerance: float
    persistent: bool
    prune_first: bool
    cases: int
    cases_split: Split
    replacement: Replacement
    learning_rate: float | None
    learning_rate_step: float
    learning_rate_bounds: tuple[float, float]
    mixture: float
    ahead: int
    _neighbourhoods: list[tuple[int, ...]]

    @property
    def neighbourhoods(self) -> list[tuple[int, ...]]:
        """For every cell itself and those that it meets."""
        return self._neighbourhoods

    @property
    def candidates(self) -> int:
        """Cell steps in all, the first pairs included."""
        return len(self._neighbourhoods) * (self.steps + 1)

    def architectures(self, cell: int, space: Pairs) -> tuple[int, int]:
        """Return which encoder and which decoder a cell begins with: the first cell the first ones, and so on
        in turns.
        """
        return cell % len(space.encoders), cell % len(space.decoders)

    def probability(self, step: int) -> float:
        """Return how likely a pruning event is at a step of a cell, 1 .. `steps`."""
        return (
            0.0
            if step <= self.untouched
            else self.schedule.probability(step, self.steps, len(self._neighbourhoods))
        )

    def amount(self, step: int, kept: float) -> float | None:
        """Return the share of its loci that an event takes from a pair that keeps this share of them; None:
        as the mutation says.
        """
        if self.smallest is None:
            return None
        target = self.smallest ** ((step - self.untouched) / (self.steps - self.untouched))
        return float(np.clip(1 - target / kept, 0.0, 1.0))

    def check(self, problem: Problem) -> None:
        """Raise InputError where the space is none of pairs."""
        if not isinstance(problem.space, Pairs):
            raise InputError(
                f"space: {type(problem.space).__name__}; Coevolution needs a spaces.PairSpace or a "
                f"spaces.MixedPairs"
            )
