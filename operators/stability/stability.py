"""Ours: operations go in stages, as soon as an edge's importances have come to rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

from operators.stability.base import Rule
from operators.stability.calibration import NULLS, lost_ground, null_threshold
from operators.stability.divergence import jensen_shannon, window_means
from operators.stability.history import EdgeHistory
from spaces.errors import require

Threshold = float | Literal["calibrated", "noise", "walk"]


class Stability(Rule):
    """An edge drops to the next stage when the JS divergence between its importances of now and of a window
    ago stays small.

    After "Jensen-Shannon stability" (IAC-LTH, arXiv 2604.14849): low-importance operations go as soon as an
    edge's distribution over operations is stable; its threshold and schedule are hand-tuned and not published
    in what could be had. [R] Windows, patience, stages, the rank condition and the calibrated thresholds are
    ours. [O]

    Stable is a check at which JS(mean of the last `window` checks, mean of the `window` before) is below the
    threshold. An edge whose last `patience` checks were stable, while the operations that the next stage
    would keep stayed the same, keeps these.

    Args:
        window: checks in a window, at least 2.
        patience: stable checks in a row.
        stages: numbers of operations to drop to, falling.
        minimum: operations that every edge keeps at least.
        threshold: in bits, 0 .. 1; or found from the edge's own history, nothing to tune:
            ``calibrated``: what would have been kept a window ago has not lost to the rest, nor what left it
            to what came in, beyond what a random walk of the edge's own steps explains (:func:`lost_ground`).
            Other moves do not bear on the choice: an edge whose best operations still gain is settled, and so
            is one that only noise moves, whose ranks change for ever; so there the rank condition is not
            asked for;
            ``noise``, ``walk``: the two windows differ by no more than noise makes them
                (:func:`null_threshold`).
        level: the rate at which pure noise is called stable, where the threshold is no number.
        rank: the rank condition, where the threshold is not ``calibrated``; without it JS alone decides.

    Raises:
        InputError: an argument out of its range.
    """

    def __init__(
        self,
        window: int = 3,
        patience: int = 1,
        stages: Sequence[int] = (5, 3, 1),
        minimum: int = 1,
        threshold: Threshold = "calibrated",
        level: float = 0.95,
        rank: bool = True,
    ) -> None:
        words = ("calibrated", *NULLS)
        require(
            "rule Stability",
            (window >= 2, f"window {window}; expected at least 2"),
            (patience >= 1, f"patience {patience}; expected at least 1"),
            (minimum >= 1, f"minimum {minimum}; expected at least 1"),
            (
                stages and min(stages) >= 1 and all(a > b for a, b in pairwise(stages)),
                f"stages {list(stages)}; expected falling numbers of operations of at least 1, such as "
                "5, 3, 1",
            ),
            (
                threshold in words if isinstance(threshold, str) else 0 <= threshold <= 1,
                f"threshold {threshold}; expected 0 to 1 or one of {', '.join(words)}",
            ),
            (0 < level < 1, f"level {level}; expected a number between 0 and 1"),
        )
        self.window, self.patience, self.stages, self.minimum = window, patience, tuple(stages), minimum
        self.threshold, self.level, self.rank = threshold, level, rank
        self.needs = 2 * window + patience - 1

    def _keep(
        self, epoch: int, epochs: int, edges: Mapping[str, EdgeHistory], rng: np.random.Generator
    ) -> Mapping[str, tuple[str, ...]]:
        kept = {}
        for edge, history in edges.items():
            count = self.next_stage(len(history.operations))
            if count is not None and self.stable(history, count):
                kept[edge] = history.best(count, window_means(history.importances, self.window)[-1])
        return kept

    def done(self, epoch: int, epochs: int, edges: Mapping[str, EdgeHistory]) -> bool:
        """Return whether no edge has a stage to come: with stages that end at 2, two operations an edge are
        left for evolution.
        """
        return all(self.next_stage(len(history.operations)) is None for history in edges.values())

    def next_stage(self, operations: int) -> int | None:
        """Return how many of so many operations are kept next; None where there is no further stage."""
        count = max(self.minimum, next((stage for stage in self.stages if stage < operations), operations))
        return count if count < operations else None

    def stable(self, history: EdgeHistory, count: int) -> bool:
        """Return whether an edge was stable over the last `patience` checks, `count` being what would be kept
        of it.
        """
        if history.checks < self.needs:
            return False
        rows, ends = history.importances, range(history.checks - self.patience + 1, history.checks + 1)
        means = window_means(rows, self.window)
        now, before = means[-self.patience :], means[-self.window - self.patience : len(means) - self.window]
        if self.threshold == "calibrated":
            places = np.array(
                [[name in history.best(count, row) for name in history.operations] for row in (*before, *now)]
            )
            pairs = zip(places[: self.patience], places[self.patience :], strict=True)
            return not any(self._moved(rows[:end], *pair) for end, pair in zip(ends, pairs, strict=True))
        if self.rank and len({history.best(count, row) for row in (*before, *now)}) > 1:
            return False
        limits = [self._limit(rows[:end]) for end in ends]
        return bool((jensen_shannon(now, before) <= limits).all())

    def _moved(self, importances: np.ndarray, before: np.ndarray, now: np.ndarray) -> bool:
        """Return whether a choice has really changed, or is about to.

        Args:
            importances: up to this check.
            before, now: what would be kept by the window before, and by this one, bool ``(operations,)``.
        """
        left, entered = before & ~now, now & ~before
        changed = left.any() and lost_ground(importances, left, entered, self.window, self.level)
        return bool(changed or lost_ground(importances, before, ~before, self.window, self.level))

    def _limit(self, importances: np.ndarray) -> float:
        """Return the threshold of one check, the last of these."""
        if isinstance(self.threshold, str):
            return null_threshold(
                importances, self.window, self.level, "walk" if self.threshold == "walk" else "noise"
            )
        return self.threshold
