"""Selection of survivors: a selection writes ``_select`` for what is feasible, the base class sees to the
rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np


class Selection(ABC):
    """Chooses survivors: feasible ones first, then infeasible ones by violation (Deb 2000, [P]), then failed
    ones.
    """

    def __call__(
        self, values: np.ndarray, violation: np.ndarray, k: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Return the rows that survive, int64 of shape ``(min(k, n),)`` without repeats.

        Args:
            values: objective values, all to be minimised, ``(n, m)``; a row with one that is not finite
                counts as failed.
            violation: 0 where feasible, larger the worse, ``(n,)``; inf or NaN for what failed.
            k: how many survive.
            rng: what the choice may draw from; nothing global is touched.

        Raises:
            ValueError: the shapes do not fit each other, or k is negative.
        """
        values, violation = np.asarray(values, dtype=np.float64), np.asarray(violation, dtype=np.float64)
        if values.ndim != 2 or violation.shape != (len(values),) or k < 0:
            raise ValueError(
                f"expected values (n, m), violation (n,) and k >= 0, got {values.shape}, {violation.shape} "
                f"and {k}"
            )
        # constraint-domination: infeasible rows take the places that feasible ones leave, failed ones last
        violation = effective_violation(values, violation)
        feasible = np.flatnonzero(violation == 0)
        if len(feasible) <= k:
            # A stable sort: of two equals the older one, which stands first, survives.
            return np.argsort(violation, kind="stable")[:k]
        if k == 0:
            return np.zeros(0, dtype=np.int64)
        if values.shape[1] == 1:
            return feasible[np.argsort(values[feasible, 0], kind="stable")[:k]]
        return feasible[self._select(values[feasible], k, rng)]

    @abstractmethod
    def _select(self, values: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
        """Return `k` different rows of `values` ``(n, m)``: all finite and feasible, ``n > k > 0``,
        ``m >= 2``.
        """


def effective_violation(values: np.ndarray, violation: np.ndarray) -> np.ndarray:
    """Return the violation ``(n,)`` with inf for every row that has a value or a violation that is not a
    finite number.
    """
    return np.where(np.isfinite(values).all(axis=1) & np.isfinite(violation), violation, np.inf)
