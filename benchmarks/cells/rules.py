"""The rules that are compared."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.cells.tasks import STAGES, WINDOW, Task
from evaluators.supernet.record import EpochRecord
from operators.stability import (
    Entropy,
    FixedStop,
    HistogramIntersection,
    RandomRemoval,
    RankStop,
    Rule,
    Stability,
)

OURS = "ours"
HAND: dict[str, Rule] = {
    f"threshold {tau:g}": Stability(WINDOW, stages=STAGES, threshold=tau) for tau in (1e-3, 1e-2)
}
"""Thresholds by hand, otherwise as ours. On seeds from 100 on smaller ones cost more and found nothing
better; the larger one never binds, so that windows and the rank condition alone decide."""
EQUAL_COST = ("random removal", "fixed stop", "ranks (DARTS+)", "histograms (SGAS)", "entropy")
"""These end when they have cost as much as ours."""


def equal_cost_rules(
    kind: Task, records: list[EpochRecord], ours: dict[str, Any], limit: float
) -> dict[str, Rule]:
    """Return the rivals of a run of ours."""
    edges, operations = list(records[0].importances), len(next(iter(records[0].importances.values())))
    left = dict.fromkeys(edges, operations)
    schedule: dict[int, int | dict[str, int]] = {}
    for epoch, removed in ours["removed"].items():
        counts = {edge: left[edge] - number for edge, number in removed.items()}
        left |= counts
        schedule[int(epoch)] = counts
    spent = np.cumsum([r.cpu_seconds for r in records])
    stop = max(int(np.searchsorted(spent, limit)) + 1, kind.search["warmup"] + 1)  # no cheaper than ours
    return {
        "random removal": RandomRemoval(schedule),
        "fixed stop": FixedStop(min(stop, kind.epochs)),
        "ranks (DARTS+)": RankStop(10),
        "histograms (SGAS)": HistogramIntersection(
            interval=max(1, round((stop - kind.search["warmup"]) / len(edges)))
        ),
        "entropy": Entropy(),
    }
