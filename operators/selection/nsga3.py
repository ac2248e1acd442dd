"""NSGA-III survival, for three objectives and more."""

from __future__ import annotations

from functools import cache
from math import comb

import numpy as np
from deap import tools

from operators.selection.base import Selection
from operators.selection.bridge import global_randomness, indices, individuals
from spaces.errors import InputError


class NSGA3Selection(Selection):
    """Whole fronts of non-domination as long as they fit, of the next one those that fill the least crowded
    reference directions.

    Source: Deb and Jain 2014, doi 10.1109/TEVC.2013.2281535 [P], as DEAP has it (without memory of ideal and
    extreme points).

    Args:
        divisions: of each axis of the simplex that carries the reference points; by default as many as give
            at most one point a survivor, so that every direction can have a survivor.
    """

    def __init__(self, divisions: int | None = None) -> None:
        if divisions is not None and divisions < 1:
            raise InputError(f"{type(self).__name__}: divisions must be at least 1, got {divisions}")
        self.divisions = divisions

    def _select(self, values: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
        objectives = values.shape[1]
        points = _reference_points(objectives, self.divisions or _fitting_divisions(objectives, k))
        with global_randomness(rng):
            return indices(tools.selNSGA3(individuals(values), k, points, nd="log"))


def _fitting_divisions(objectives: int, k: int) -> int:
    """The largest number of divisions that gives at most `k` points, and at least 1."""
    divisions = 1
    while comb(divisions + objectives, objectives - 1) <= k:
        divisions += 1
    return divisions


@cache
def _reference_points(objectives: int, divisions: int) -> np.ndarray:
    return tools.uniform_reference_points(objectives, divisions)
