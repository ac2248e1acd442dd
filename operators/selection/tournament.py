"""Choice of parents: ranks, crowding distances, and tournaments."""

from __future__ import annotations

import numpy as np
from deap import tools
from deap.tools.emo import assignCrowdingDist

from operators.selection.base import effective_violation
from operators.selection.bridge import Individual, indices, individuals


def rank(values: np.ndarray, violation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the front of non-domination (0 is the best) and the crowding distance in it of every row.

    Source: Deb et al. 2002 [P]. Only feasible rows are sorted; the others share the front behind the last
    one, at distance 0.

    Args:
        values: objective values, all to be minimised, ``(n, m)``; rows that are not finite count as failed.
        violation: 0 where feasible, ``(n,)``.

    Returns:
        int64 and float64 (inf at the ends of a front), each of shape ``(n,)``.
    """
    values = np.asarray(values, dtype=np.float64)
    feasible = np.flatnonzero(effective_violation(values, np.asarray(violation, dtype=np.float64)) == 0)
    fronts = _fronts(values[feasible])
    ranks, crowding = np.full(len(values), len(fronts), dtype=np.int64), np.zeros(len(values))
    for number, front in enumerate(fronts):
        assignCrowdingDist(front)
        rows = feasible[indices(front)]
        ranks[rows] = number
        crowding[rows] = [individual.fitness.crowding_dist for individual in front]
    return ranks, crowding


def tournament(
    ranks: np.ndarray,
    crowding: np.ndarray,
    violation: np.ndarray,
    k: int,
    rng: np.random.Generator,
    size: int = 2,
) -> np.ndarray:
    """Return the best rows of `k` tournaments among `size` each, int64 of shape ``(k,)``; repeats happen.

    The smaller violation wins, then the smaller rank, then the larger crowding distance, then chance (Deb et
    al. 2002 [P]). Rows with a violation of inf (what failed) are never drawn; for an array without any other
    row the result is empty.
    """
    alive = np.flatnonzero(np.isfinite(violation))
    if len(alive) == 0:
        return np.zeros(0, dtype=np.int64)
    # the last key of lexsort counts most: violation, then rank, then crowding, then chance; after that the
    # best of a tournament is the one that stands first in the order
    order = np.lexsort((rng.random(len(alive)), -crowding[alive], ranks[alive], violation[alive]))
    drawn = rng.integers(len(alive), size=(k, size))
    return alive[order[drawn.min(axis=1)]]


def _fronts(values: np.ndarray) -> list[list[Individual]]:
    if len(values) == 0:
        return []
    population = individuals(values)
    if values.shape[1] > 1:
        return tools.sortLogNondominated(population, len(population))
    # DEAP's sorting never ends on a single objective: there every value is a front.
    _, front = np.unique(values[:, 0], return_inverse=True)
    return [
        [population[i] for i in np.flatnonzero(front == number)] for number in range(int(front.max()) + 1)
    ]
