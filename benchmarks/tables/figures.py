"""What is said of a search over a table: its regret, and how much of the exact front's hypervolume it
misses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import moocore
import numpy as np

from benchmarks.tables.recorded import Table, load

LEVEL = 0.90
_DRAWS = 2000


def regret(table: Table, asked: np.ndarray) -> float:
    """Return how far the best that was asked is from the best of the table."""
    return float(table.at(asked).min()) - table.best


@cache
def _front(name: str, metrics: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return lower and upper ends of the exact front, both ``(m,)`` and in the scale of :func:`_scaled`, the
    front ``(n, m)`` between 0 and 1, and its hypervolume.
    """
    points = _scaled(load(name), np.arange(load(name).metrics["error"].size), metrics)
    front = points[moocore.is_nondominated(points, maximise=False, keep_weakly=False)]
    low, high = front.min(axis=0), front.max(axis=0)
    shares = (front - low) / (high - low)
    return low, high, shares, float(moocore.hypervolume(shares, ref=_reference(metrics)))


def _scaled(table: Table, positions: np.ndarray, metrics: Sequence[str]) -> np.ndarray:
    """Return values ``(n, m)``; costs by their logarithm, since they differ a hundredfold."""
    columns = [table.at(positions, metric) for metric in metrics]
    return np.column_stack(
        [
            column if metric == "error" else np.log(column)
            for metric, column in zip(metrics, columns, strict=True)
        ]
    )


def _reference(metrics: Sequence[str]) -> np.ndarray:
    return np.full(len(metrics), 1.1)


def missed(table: Table, asked: np.ndarray, metrics: tuple[str, ...]) -> float:
    """Return the share of the exact front's hypervolume that what was asked misses, 0 to 1; axes run from the
    front's lower to its upper end, the reference is a tenth beyond.
    """
    low, high, _, whole = _front(table.name, metrics)
    points = (_scaled(table, asked, metrics) - low) / (high - low)
    inside = points[(points < 1.1).all(axis=1)]
    reached = moocore.hypervolume(inside, ref=_reference(metrics)) if len(inside) else 0.0
    return 1.0 - float(reached) / whole


def ratio(
    ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], floors: Mapping[str, float]
) -> dict[str, float]:
    """Return the geometric mean over tables of our mean over the mean of the best of the others, its
    interval, and the worst table.

    Args:
        ours: of each table a value a seed ``(seeds,)``.
        theirs: of each table ``(opponents, seeds)``, of the same seeds.
        floors: what a mean below counts as, by table.
    """
    tables = sorted(ours)

    def of(rows: np.ndarray) -> np.ndarray:
        best = {t: max(floors[t], float(np.nanmin(theirs[t][:, rows].mean(axis=1)))) for t in tables}
        return np.array([max(floors[t], float(ours[t][rows].mean())) / best[t] for t in tables])

    seeds = len(next(iter(ours.values())))
    rng = np.random.default_rng(0)
    drawn = [_mean(of(rng.integers(seeds, size=seeds))) for _ in range(_DRAWS)]
    here = of(np.arange(seeds))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    worst = int(np.argmax(here))
    return {
        "ratio": _mean(here),
        "lower": float(low),
        "upper": float(high),
        "worst": float(here[worst]),
        "worst_table": tables[worst],
    } | {f"of {table}": float(value) for table, value in zip(tables, here, strict=True)}


def _mean(ratios: np.ndarray) -> float:
    return float(np.exp(np.log(ratios).mean()))
