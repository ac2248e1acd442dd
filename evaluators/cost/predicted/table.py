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
_BLOCK = 4
"""Where numbers of channels are multiples of this, some kernels take another way."""
_BLOCKS = 4
"""Places of the same remainder on a line."""
_COARSE, _COARSER = 5, 3
"""Places of the grid along a width, with up to two widths and with more."""
_DENSE = 1 << 18
"""Entries of a table that is kept whole."""


class Table:
    """Milliseconds of an operation whose numbers follow from `d` widths. [O]

    Kernels take another way where widths are multiples of 4, and which one depends on all widths at once: no
    factor a width says it. So places with the same widths among these multiples are a table of their own;
    with three widths or more, those with all of them and all others.

    Args:
        largest: widths, ``(d,)``.
        measure: gives the milliseconds at places, one width a dimension each.
    """

    def __init__(self, largest: Sequence[int], measure: Callable[[list[Place]], list[Took]]) -> None:
        self.largest = tuple(largest)
        self.measured: dict[Place, Took] = {}

        def looked(places: list[Place]) -> np.ndarray:
            missing = [place for place in places if place not in self.measured]
            self.measured |= zip(missing, measure(missing), strict=True)
            return np.array([self.measured[place] for place in places])

        self._products = {}
        for ways in _ways(self.largest):
            lines = [_fitting(_line(w), way) for w, way in zip(self.largest, ways, strict=True)]
            # of three and more, what stands for all others is at none of these multiples
            rest = len(lines) > 2 and True not in ways
            anchors = [_fitting(line, False) for line in lines] if rest else lines
            self._products[ways] = _Product(lines, anchors, looked)

    def look_up(self, factors: Sequence[float]) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function of widths ``(d, n)`` that gives milliseconds ``(n,)``: work and layout times
        their factors.
        """
        weights = np.asarray(factors)

        def exact(widths: np.ndarray) -> np.ndarray:
            took = np.empty((widths.shape[1], len(weights)))
            left = np.ones(widths.shape[1], dtype=bool)
            for ways, product in self._products.items():
                fit = [_fits(width, way) for width, way in zip(widths, ways, strict=True)]
                here = np.all([left, *fit], axis=0)
                took[here] = product(widths[:, here])
                left &= ~here
            return np.asarray(took @ weights)

        if not self.largest or math.prod(w + 1 for w in self.largest) > _DENSE:
            return exact
        every = np.indices([w + 1 for w in self.largest]).reshape(len(self.largest), -1)
        dense = exact(every).reshape([w + 1 for w in self.largest])
        return lambda widths: dense[tuple(widths)]


Ways = tuple[bool | None, ...]
"""For each width, whether it is a multiple of 4; None: it may be either."""


def _ways(largest: Sequence[int]) -> list[Ways]:
    """Return what tells tables apart; the first that fits a place is that of the place."""
    if len(largest) < 2:
        return [(None,) * len(largest)]
    # what is narrower than 4 is never a multiple of it, but for nothing at all, which nobody asks
    able = [(False, True) if w >= _BLOCK else (None,) for w in largest]
    if len(largest) == 2:
        return [*itertools.product(*able)]
    return [tuple(ways[-1] for ways in able), (None,) * len(largest)]


def _fits(widths: np.ndarray, way: bool | None) -> np.ndarray:
    return np.full(len(widths), True) if way is None else (widths % _BLOCK == 0) == way


def _fitting(line: np.ndarray, way: bool | None) -> np.ndarray:
    return line[_fits(line, way)]


class _Product:
    """``t(w) = c(w) * prod_i s_i(w_i) / c_i(w_i)``: `c` is interpolated on a coarse grid, and says what the
    widths do together. ``s_i`` is a line along one width, the others at their last, and ``c_i`` what the
    grid's places would make of that line: their ratio is the stairs. On a line, a width lies between widths
    of the same remainder by 16, so that what kernels of 4, 8 or 16 channels do with the rest is kept.

    Args:
        lines: places along each width, ascending.
        anchors: those of them that the grid may have; lines cross at the last ones.
        looked: gives milliseconds at places, ``(places, 2)``.
    """

    def __init__(
        self,
        lines: Sequence[np.ndarray],
        anchors: Sequence[np.ndarray],
        looked: Callable[[list[Place]], np.ndarray],
    ) -> None:
        self._grid = [_coarse(line, _COARSE if len(lines) < 3 else _COARSER) for line in anchors]
        grid = looked([tuple(map(int, place)) for place in itertools.product(*self._grid)])
        self._coarse = grid.reshape([*map(len, self._grid), len(Took._fields)])
        last, self._stairs = [int(places[-1]) for places in self._grid], []
        for dim, line in enumerate(lines):
            along = looked([(*last[:dim], int(w), *last[dim + 1 :]) for w in line])
            self._stairs.append(_stairs(line, along, self._grid[dim]))

    def __call__(self, widths: np.ndarray) -> np.ndarray:
        took = _interpolated(self._grid, self._coarse, widths)
        for stairs, width in zip(self._stairs, widths, strict=True):
            took = took * stairs[np.minimum(width, len(stairs) - 1)]
        return took


def _coarse(line: np.ndarray, count: int) -> np.ndarray:
    """Return some places of a line, the first and the last among them, in equal ratios from 16 on."""
    last = int(line[-1])
    wished = (
        np.linspace(line[0], last, _COARSER)
        if last <= _PERIOD
        else np.append(line[0], np.geomspace(_PERIOD, last, count))
    )
    return np.unique(line[np.abs(line[:, None] - wished).argmin(axis=0)])


def _line(largest: int) -> np.ndarray:
    blocks = np.unique(np.geomspace(1, max(1, largest // _PERIOD), _BLOCKS).round().astype(int)) - 1
    if largest <= _PERIOD * _BLOCKS:
        blocks = np.arange(-(-largest // _PERIOD))
    places = (blocks[:, None] * _PERIOD + np.arange(1, _PERIOD + 1)).ravel()
    return np.unique(np.append(places[places <= largest], largest))


def _stairs(places: np.ndarray, along: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return what a line makes of every width over what the grid's places make of it, ``(largest + 1, 2)``;
    at 0 what it is at the first, and 1 where no place has the remainder of a width.
    """
    largest = int(places[-1])
    every = np.full((largest + 1, along.shape[1]), np.nan)
    for rest in range(_PERIOD):
        same = places % _PERIOD == rest
        widths = np.arange(rest or _PERIOD, largest + 1, _PERIOD)
        if same.any():
            for column, values in zip(every.T, along[same].T, strict=True):
                column[widths] = np.interp(widths, places[same], values)
    every[0] = along[0]
    widths = np.arange(largest + 1)
    smooth = np.column_stack([np.interp(widths, grid, column[grid]) for column in every.T])
    return np.divide(every, smooth, out=np.ones_like(every), where=(smooth > 0) & np.isfinite(every))


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
