"""How long an operation takes at every width: measured at some, and joined so that staircases stay."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from evaluators.cost.predicted.runtime import Took

Place = tuple[int, ...]

_PERIOD = 16
"""Kernels work on 4, 8 or 16 channels at a time."""
_BLOCKS = 4
"""Places of the same remainder on a line."""
_COARSE, _COARSER = 5, 3
"""Places of the grid along a width, with up to two widths and with more."""
_DENSE = 1 << 18
"""Entries of a table that is kept whole."""


class Table:
    """Milliseconds of an operation whose numbers follow from `d` widths. [O]

    ``t(w) = c(w) * prod_i s_i(w_i) / c_i(w_i)``: `c` is interpolated on a coarse grid of multiples of 16, and
    says what the widths do together. ``s_i`` is a line along one width, the others at their largest, and
    ``c_i`` what the grid's places would make of that line: their ratio is the stairs. On a line, a width lies
    between widths of the same remainder by 16, so that what kernels of 4, 8 or 16 channels do with the rest
    is kept.

    Args:
        largest: widths, ``(d,)``.
        measure: gives the milliseconds at places, one width a dimension each.
    """

    def __init__(self, largest: Sequence[int], measure: Callable[[list[Place]], list[Took]]) -> None:
        self.largest = tuple(largest)
        self.measured: dict[Place, Took] = {}
        self._grid = [_coarse(w, _COARSE if len(self.largest) < 3 else _COARSER) for w in self.largest]
        lines = [_line(w) for w in self.largest]

        def looked(places: list[Place]) -> np.ndarray:
            missing = [place for place in places if place not in self.measured]
            self.measured |= zip(missing, measure(missing), strict=True)
            return np.array([self.measured[place] for place in places])

        grid = looked([tuple(map(int, place)) for place in itertools.product(*self._grid)])
        self._coarse = grid.reshape([*map(len, self._grid), len(Took._fields)])
        self._stairs = []
        for dim, line in enumerate(lines):
            along = looked([(*self.largest[:dim], int(w), *self.largest[dim + 1 :]) for w in line])
            self._stairs.append(_stairs(line, along, self._grid[dim]))

    def look_up(self, factors: Sequence[float]) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function of widths ``(d, n)`` that gives milliseconds ``(n,)``: work and layout times
        their factors.
        """
        weights = np.asarray(factors)

        def exact(widths: np.ndarray) -> np.ndarray:
            took = _interpolated(self._grid, self._coarse, widths)
            for stairs, width in zip(self._stairs, widths, strict=True):
                took = took * stairs[width]
            return np.asarray(took @ weights)

        if not self.largest or math.prod(w + 1 for w in self.largest) > _DENSE:
            return exact
        every = np.indices([w + 1 for w in self.largest]).reshape(len(self.largest), -1)
        dense = exact(every).reshape([w + 1 for w in self.largest])
        return lambda widths: dense[tuple(widths)]


def _coarse(largest: int, count: int) -> np.ndarray:
    if largest <= _PERIOD:
        return np.unique(np.linspace(1, largest, _COARSER).round().astype(int))
    places = np.unique(np.geomspace(1, largest / _PERIOD, count).round().astype(int)) * _PERIOD
    return np.unique(np.append(places[places <= largest], largest))


def _line(largest: int) -> np.ndarray:
    blocks = np.unique(np.geomspace(1, max(1, largest // _PERIOD), _BLOCKS).round().astype(int)) - 1
    if largest <= _PERIOD * _BLOCKS:
        blocks = np.arange(-(-largest // _PERIOD))
    places = (blocks[:, None] * _PERIOD + np.arange(1, _PERIOD + 1)).ravel()
    return np.unique(np.append(places[places <= largest], largest))


def _stairs(places: np.ndarray, along: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return what a line makes of every width over what the grid's places make of it, ``(largest + 1, 2)``;
    at 0 what it is at 1.
    """
    largest = int(places[-1])
    every = np.empty((largest + 1, along.shape[1]))
    for rest in range(_PERIOD):
        same = places % _PERIOD == rest
        widths = np.arange(rest or _PERIOD, largest + 1, _PERIOD)
        for column, values in zip(every.T, along[same].T, strict=True):
            if len(widths):
                column[widths] = np.interp(widths, places[same], values)
    every[0] = every[1]
    widths = np.arange(largest + 1)
    smooth = np.column_stack([np.interp(widths, grid, column[grid]) for column in every.T])
    return np.divide(every, smooth, out=np.ones_like(every), where=smooth > 0)


def _interpolated(grid: Sequence[np.ndarray], values: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Return values between the places of a grid, linear along every width, ``(n, 2)``."""
    corners = []
    for places, width in zip(grid, widths, strict=True):
        low = np.clip(np.searchsorted(places, width, side="right") - 1, 0, max(0, len(places) - 2))
        high = np.minimum(low + 1, len(places) - 1)
        gap = np.maximum(places[high] - places[low], 1)
        share = np.clip((width - places[low]) / gap, 0, 1)
        corners.append(((low, 1 - share), (high, share)))
    total = np.zeros((widths.shape[1], values.shape[-1]))
    for corner in itertools.product(*corners):
        weight = math.prod((share for _, share in corner), start=np.ones(widths.shape[1]))
        total += weight[:, None] * values[tuple(at for at, _ in corner)]
    return total
