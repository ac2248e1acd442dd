"""Objectives and constraints as plain numbers, and the front under them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


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
