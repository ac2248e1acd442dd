"""How well one number predicts another, beyond what a third tells of both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from spaces.lazy import LazyModule

stats: Any = LazyModule("scipy.stats")


@dataclass(frozen=True)
class RankCorrelation:
    """Kendall's tau of `n` pairs, -1 to 1; nan where it is not defined."""

    tau: float
    n: int

    @property
    def positive(self) -> bool:
        """Whether it is above what 9 of 10 chance rankings reach (normal approximation, Kendall 1938 [P])."""
        n = self.n
        return n > 1 and self.tau > 1.2816 * math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1)))


def rank_correlation(x: np.ndarray, y: np.ndarray, given: np.ndarray | None = None) -> RankCorrelation:
    """Return Kendall's rank correlation of `x` and `y`, ``(n,)`` each, or of what `given` leaves of them.

    Scores of networks of many sizes agree by the sizes alone. With the size given, what counts is whether
    they agree about networks of one size: of the normal scores of both, what is linear in those of `given` is
    taken out first. [O] (Kendall's own partial tau does not vanish where `x` and `y` have nothing in common
    but `given`.)
    """
    if given is not None and len(x) > 1 and np.ptp(given) > 0:
        size = normal_scores(given)
        x, y = (_without(normal_scores(values), size) for values in (x, y))
    return RankCorrelation(float(stats.kendalltau(x, y).statistic) if len(x) > 1 else math.nan, len(x))


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Return where each value ``(n,)`` stands among the others, as a quantile of the normal distribution; nan
    counts as the highest.
    """
    filled = np.nan_to_num(values, nan=np.inf, posinf=np.inf)
    return stats.norm.ppf((stats.rankdata(filled) - 0.5) / len(values))


def _without(values: np.ndarray, direction: np.ndarray) -> np.ndarray:
    left: np.ndarray = values - direction * (values @ direction) / (direction @ direction)
    return left
