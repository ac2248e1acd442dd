"""How many channels of a group may be kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spaces.base import Segment
from spaces.channels.depth import DEPTH
from spaces.channels.wishes import by_group
from spaces.errors import InputError

_EPSILON = 1e-9
"""A third of nine channels is three."""


@dataclass(frozen=True)
class Limits:
    """Bounds of the number of kept channels of a group of `size`.

    Attributes:
        step: counts are a multiple of this; where no upper bound forbids it a group may also be whole.
        least: fewest channels.
        most: largest share.
    """

    size: int
    step: int = 1
    least: int = 1
    most: float = 1.0

    @property
    def lowest(self) -> int:
        """The smallest count that is allowed."""
        return min(-(-min(self.least, self.size) // self.step) * self.step, self.size)

    @property
    def highest(self) -> int:
        """The largest count that is allowed."""
        return (
            self.size
            if self.most >= 1
            else math.floor(self.most * self.size + _EPSILON) // self.step * self.step
        )

    def nearest(self, kept: np.ndarray) -> np.ndarray:
        """Return the allowed counts nearest to those, both ``(n,)`` integers."""
        rounded = np.rint(kept / self.step).astype(np.int64) * self.step
        target = np.clip(rounded, self.lowest, self.highest)
        whole_is_nearer = (self.size - kept < np.abs(kept - target)) | (kept == self.size)
        return np.where(whole_is_nearer & (self.most >= 1), self.size, target)


def limits(
    segments: Sequence[Segment],
    round_to: int | Mapping[str, int],
    min_keep: int,
    least: Mapping[str, float],
    most: Mapping[str, float],
    needed: Mapping[str, int],
) -> dict[str, Limits]:
    """Return the limits of every group by its name.

    Args:
        needed: names of groups whose counts have to be a multiple of a number, whatever `round_to` says.

    Raises:
        InputError: a pattern matches nothing, or bounds leave no count.
    """
    names = [segment.name for segment in segments]
    steps, lower = by_group("space.round_to", round_to, names, 1), by_group("space.least", least, names, 0.0)
    upper = by_group("space.most", most, names, 1.0)
    found = {}
    for segment in segments:
        fewest = math.ceil(lower[segment.name] * segment.size - _EPSILON)
        # all blocks may go, and they are no channels that a processor wants in multiples
        step, fewest = (1, fewest) if segment.name == DEPTH else (steps[segment.name], max(min_keep, fewest))
        step = math.lcm(step, needed.get(segment.name, 1))
        found[segment.name] = bound = Limits(segment.size, step, fewest, upper[segment.name])
        if bound.highest < bound.lowest:
            raise InputError(
                f"space.most: {segment.name} has {segment.size} channels, at most {bound.highest} and at "
                f"least {bound.lowest} of them in "
                f"multiples of {step} leave none; give it a larger share or a smaller least, min_keep or "
                f"round_to"
            )
    return found
