"""Divisions of one axis that do not fit into each other, and the blocks that they share. [O]"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np


def shared_blocks(places: Mapping[int, np.ndarray], size: int, width: int) -> list[tuple[list[int], bool]]:
    """Return which loci have to be one where an axis that they divide into groups is divided into groups of
    `width` as well, and whether each is the only one of its kind, so that it always stays.

    Neither division fits into the other: 6 groups of 4 channels, 4 groups of 6. Runs that hold whole groups
    of both may go (12 channels), and within all groups the same places of the common width (2). Empty where
    the loci are no such groups.

    Args:
        places: of every locus, sorted.
        size: of the axis.
    """
    widths = {_width_of(own, size) for own in places.values()}
    before = widths.pop()
    if widths or not before or not before % width or not width % before:
        return []
    run, common = math.lcm(before, width), math.gcd(before, width)
    blocks: dict[tuple[bool, int], list[int]] = {}
    for root, own in places.items():
        is_group = bool(own[-1] - own[0] < before)
        block = own[0] // run if is_group else own[0] % common
        blocks.setdefault((is_group, int(block)), []).append(root)
    return [(roots, run == size if is_group else common == 1) for (is_group, _), roots in blocks.items()]


def _width_of(places: np.ndarray, size: int) -> int:
    """Return the width of the groups of an axis of which sorted places are one group, or the same place of
    every group; 0 where they are neither.
    """
    steps = np.unique(np.diff(places))
    if len(steps) != 1:
        return 0
    count, step = len(places), int(steps[0])
    if step == 1 and places[0] % count == 0:
        return count
    return step if step > 1 and count * step == size else 0
