"""What is checked of a member: that it computes what its mask did, and that it keeps the limits."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from search.problem import Problem
from search.record.finals import Limit

TOLERANCE = 1e-4
"""Largest difference between a compact model and the masked full one, or an exported model and the one in
memory, relative to the largest output (at least 1).
"""


def tolerance(model: nn.Module) -> float:
    """Return :data:`TOLERANCE`, or what a model of 16 bits can keep: a few roundings of its type."""
    types = {p.dtype for p in model.parameters() if p.dtype in (torch.float16, torch.bfloat16)}
    return max([TOLERANCE, *(4 * torch.finfo(kind).eps for kind in types)])


def verify(problem: Problem, genome: np.ndarray, tuned: nn.Module) -> dict[str, float]:
    """Compare a compact model with the masked full one: as built, and with the tuned weights scattered back.
    Empty where nothing is sliced.

    Returns:
        ``before`` and ``after``: largest difference, relative to the largest output (at least 1).
    """
    before = problem.space.difference(genome)
    after = None if before is None else problem.space.difference(genome, compact=tuned)
    return {} if before is None or after is None else {"before": before, "after": after}


def limits(problem: Problem, metrics: dict[str, float]) -> list[Limit]:
    """Hold every constraint against what a model really has."""
    held = []
    for constraint in problem.constraints:
        value = metrics.get(constraint.metric)
        if value is not None:
            bound = constraint.limit(problem.base)
            met = value <= bound if constraint.relation == "<=" else value >= bound
            held.append(Limit(str(constraint), bound, value, met))
    return held
