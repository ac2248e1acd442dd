"""NSGA-II survival."""

from __future__ import annotations

import numpy as np
from deap import tools

from operators.selection.base import Selection
from operators.selection.bridge import indices, individuals


class NSGA2Selection(Selection):
    """Whole fronts of non-domination as long as they fit, of the next one those with the largest crowding
    distance.

    Source: Deb et al. 2002, doi 10.1109/4235.996017 [P], as DEAP has it; the sorting is that of Fortin et al.
    2013.
    """

    def _select(self, values: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
        return indices(tools.selNSGA2(individuals(values), k, nd="log"))
