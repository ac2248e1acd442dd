"""Crossover of whole segments."""

from __future__ import annotations

import numpy as np

from operators.crossover.base import Crossover
from spaces.base import Space
from spaces.errors import require


class SegmentWise(Crossover):
    """Takes every segment whole from either parent: the channels of a layer that work together stay together.
    [O]

    Args:
        share: chance that a segment comes from the second parent.
        probability: share of the pairs that are crossed.
    """

    def __init__(self, share: float = 0.5, probability: float = 0.9) -> None:
        super().__init__(probability)
        require(type(self).__name__, (0 <= share <= 1, f"share must be in 0 .. 1, got {share}"))
        self.share = share

    def _apply(
        self, space: Space, first: np.ndarray, second: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        swapped = rng.random((len(first), len(space.segments))) < self.share
        return np.where(
            np.repeat(swapped, [segment.size for segment in space.segments], axis=1), second, first
        )
