"""How times of operations add up to that of a network: a factor a kind, fitted to measured networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

REST = "rest"
"""What is always the same: operations too short to be measured at all widths, and the call itself."""
_RIDGE = 0.01
_SMALL = 0.03
"""Share of the whole below which kinds have one factor together: so few networks cannot tell them apart."""


@dataclass(frozen=True)
class Error:
    """How far predictions are off networks that the fit has not seen, as shares of what was measured.

    Attributes:
        median: of them.
        p90: what nine of ten are within.
    """

    median: float
    p90: float


class Fit:
    """Factors of at least 0: the least squares of relative errors, drawn a little to one common factor. [P]
    (non-negative least squares: Lawson and Hanson 1974)

    Args:
        parts: milliseconds that the operations of a kind take by themselves, ``(networks,)`` a kind; those of
            :data:`REST` are the same for all networks, and their factor is free.
    """

    def __init__(self, parts: Mapping[str, np.ndarray]) -> None:
        total = sum(parts.values())
        large = [REST, *(name for name in parts if (parts[name] / total).mean() >= _SMALL and name != REST)]
        place = {name: i for i, name in enumerate(large)}
        self._place = {name: place.get(name, len(large)) for name in parts}
        self._columns = np.zeros((len(parts[REST]), max(self._place.values()) + 1))
        for name, column in parts.items():
            self._columns[:, self._place[name]] += column

    def factors(self, measured: np.ndarray) -> dict[str, float]:
        """Return the factor of every kind, for the milliseconds of the networks, ``(networks,)``."""
        found = self._fitted(self._columns, measured)
        return {name: float(found[place]) for name, place in self._place.items()}

    def error(self, measured: np.ndarray) -> Error:
        """Return the error on each network of a fit to all others."""
        errors = []
        for i, (parts, took) in enumerate(zip(self._columns, measured, strict=True)):
            others = np.arange(len(measured)) != i
            factors = self._fitted(self._columns[others], measured[others])
            errors.append(abs(parts @ factors / took - 1))
        return Error(float(np.median(errors)), float(np.quantile(errors, 0.9)))

    @staticmethod
    def _fitted(columns: np.ndarray, measured: np.ndarray) -> np.ndarray:
        shares = columns / measured[:, None]
        common = float(np.median(measured / columns.sum(axis=1)))
        pull = np.sqrt(_RIDGE * len(measured)) * shares.mean(axis=0)
        pull[0] = 0.0
        rows = np.vstack([shares, np.diag(pull)])
        factors, _ = nnls(rows, np.concatenate([np.ones(len(measured)), pull * common]))
        return np.asarray(factors)
