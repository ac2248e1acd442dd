"""Widths that a runtime likes: of which number the kept channels of a group should be a multiple."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from spaces.channels.depth import DEPTH
from spaces.channels.plan import SlicePlan

_STEPS = (2, 4, 8, 16)
_WORTH = 0.75
"""What a channel more is worth, as a share of the time that it takes on a straight line: less than 1, or
rounding up would never cost anything."""


def steps(plan: SlicePlan, predict: Callable[[np.ndarray], np.ndarray]) -> dict[str, int]:
    """Return for every group the step to which rounding widths up brings most. [O]

    Args:
        plan: of the space.
        predict: milliseconds of keep bits ``(n, length)``.

    Returns:
        Names of groups with steps above 1. For a group, every width is compared with the next multiple of a
        step, all other groups at half of their widths: what time that saves, and the channels that it adds.
        Where kernels work on blocks, channels up to the next block are free, and a width between blocks may
        take longer than the block.
    """
    half = np.zeros(plan.length, dtype=np.uint8)
    for segment, place in zip(plan.segments, plan.starts.values(), strict=True):
        half[place][: -(-segment.size // 2)] = 1
    found = {}
    for segment in plan.segments:
        if segment.name == DEPTH:
            continue
        place = plan.starts[segment.name]
        genomes = np.repeat(half[None], segment.size, axis=0)
        genomes[:, place] = np.tri(segment.size, dtype=np.uint8)
        took, widths = predict(genomes), np.arange(1, segment.size + 1)
        gains = {}
        for step in _STEPS:
            up = np.minimum(-(-widths // step) * step, segment.size)
            worth = _WORTH * (took[-1] - took[0]) / segment.size * (up - widths)
            gains[step] = (took - took[up - 1] + worth).sum() if step < segment.size else -np.inf
        best = max(gains, key=lambda step: gains[step])
        if gains[best] > 0:
            found[segment.name] = best
    return found
