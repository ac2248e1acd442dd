"""Mutation along the importance that criteria saw in the base model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from operators.base import Guide
from operators.mutation.guided import Guided, entry
from operators.ranks import drawn_ranks
from spaces.base import Space
from spaces.errors import InputError


class CriterionGuided(Guided):
    """Flips kept loci with low scores off and dropped ones with high scores on, by criteria of the base
    model. [O]

    Args:
        criteria: entries of the guide; each genome draws one of them.
        rate: expected flips as a share of the keep bits.
        pressure: how strongly ranks decide; 0 ignores them.
        probability: share of the genomes that are changed at all.

    Raises:
        InputError: when called with a guide that lacks one of `criteria`, or for a space without keep bits.
    """

    def __init__(
        self,
        criteria: Sequence[str] = ("magnitude", "taylor"),
        rate: float = 0.03,
        pressure: float = 2.0,
        probability: float = 1.0,
    ) -> None:
        super().__init__(rate, pressure, probability)
        if isinstance(criteria, str) or not criteria:
            raise InputError(
                f"{type(self).__name__}: criteria must be a list of at least one name, got {criteria!r}"
            )
        self.criteria = self.needs = tuple(criteria)

    def _ranks(self, space: Space, genomes: np.ndarray, guide: Guide, rng: np.random.Generator) -> np.ndarray:
        return drawn_ranks(space, [entry(guide, name, self) for name in self.criteria], len(genomes), rng)
