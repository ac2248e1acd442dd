"""Objectives and constraints as plain numbers, and the front under them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# the one metric that tells of the whole curve; evaluators, which name it, would bring torch into the view
_WHOLE = "steady_loss"


class Goals:
    """Objectives and constraints as the ledger's note says them, and the front under them.

    Attributes:
        front: numbers of the evaluations on it.
    """

    def __init__(self, about: Mapping[str, Any]) -> None:
        self.objectives = [(o["metric"], bool(o["maximise"])) for o in about["objectives"]]
        self.constraints = [
            (c["text"], c["metric"], c["relation"], float(c["limit"])) for c in about["constraints"]
        ]
        self.front: list[int] = []
        self._values = np.empty((0, len(self.objectives)))

    def values(self, metrics: Mapping[str, float]) -> list[float]:
        return [float(metrics[name]) for name, _ in self.objectives]

    def excesses(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """By how much each bound is passed, in the metric's unit; 0 and below is feasible."""
        return {
            text: float(metrics[metric] - limit if relation == "<=" else limit - metrics[metric])
            for text, metric, relation, limit in self.constraints
            if metric in metrics
        }

    def feasible(self, metrics: Mapping[str, float]) -> bool:
        return all(value <= 0 for value in self.excesses(metrics).values())

    def join(self, seq: int, metrics: Mapping[str, float]) -> bool:
        """Add to the front what is feasible and not dominated; whether it was. Of equals the
        first one stays.
        """
        if not self.feasible(metrics):
            return False
        new = np.array([-metrics[name] if maximise else metrics[name] for name, maximise in self.objectives])
        if (self._values <= new).all(axis=1).any():
            return False
        stay = np.asarray((new > self._values).any(axis=1))
        self.front = [*(old for old, stays in zip(self.front, stay, strict=True) if stays), seq]
        self._values = np.vstack([self._values[stay], new])
        return True


def repeats(metrics: Mapping[str, float], earlier: Sequence[Mapping[str, float]]) -> bool:
    """Whether a report only says that the weights of an epoch before the latest one were put back."""
    of_epoch = [
        {name: value for name, value in found.items() if name != _WHOLE} for found in (*earlier, metrics)
    ]
    return of_epoch[-1] in of_epoch[:-2] and of_epoch[-1] != of_epoch[-2]


def curve(monitor: str, reports: Sequence[tuple[int, Mapping[str, float]]]) -> dict[int, float]:
    """Return what was watched, by step; without the last report where it only repeats an epoch whose weights
    were put back.
    """
    steps = [metrics for _, metrics in reports]
    whole = reports[:-1] if steps and repeats(steps[-1], steps[:-1]) else reports
    return {step: value for step, metrics in whole if (value := watched(monitor, metrics)) is not None}


def watched(monitor: str, metrics: Mapping[str, float]) -> float | None:
    """Return a metric, or a sum of metrics (``loss + tic_bias``), of a report; None where it lacks one of
    them.
    """
    names = [name.split()[-1] for name in monitor.split("+")]  # "max accuracy" is shown as it is
    return sum(metrics[name] for name in names) if all(name in metrics for name in names) else None
