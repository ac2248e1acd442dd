"""From criteria to a guide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from operators.criteria.base import Batches, Criterion, Loss
from spaces.channels.plan import SlicePlan
from spaces.errors import InputError


def score_all(
    criteria: Sequence[Criterion], model: nn.Module, batches: Batches, plan: SlicePlan, loss: Loss
) -> dict[str, np.ndarray]:
    """Return every criterion's scores by its name, float64 of shape ``(length,)`` in the order of the genome.

    Args:
        criteria: with different names.
        model: trained; it comes back unchanged.
        batches: ``(inputs, targets)``; drawn once and kept for all criteria.
        plan: of that model.
        loss: outputs and targets to the loss of every sample, ``(batch,)``.

    Raises:
        InputError: two criteria have one name, or one of them gives scores that are not finite, too few or
            too many.
    """
    kept, guide = list(batches), {}
    for criterion in criteria:
        if criterion.name in guide:
            raise InputError(f"criteria: two have the name {criterion.name!r}; every criterion needs its own")
        guide[criterion.name] = _flat(criterion.name, criterion.score(model, kept, plan, loss), plan)
    return guide


def _flat(name: str, scores: dict, plan: SlicePlan) -> np.ndarray:
    flat = np.empty(plan.length)
    for segment in plan.segments:
        if segment.name not in scores:
            raise InputError(
                f"criterion {name!r}: no scores for segment {segment.name!r}; every segment needs some"
            )
        values = scores[segment.name].detach().double().cpu().numpy()
        if values.shape != (segment.size,) or not np.isfinite(values).all():
            raise InputError(
                f"criterion {name!r}: segment {segment.name!r} needs {segment.size} finite scores, got "
                f"{_what(values)}"
            )
        flat[plan.starts[segment.name]] = values
    return flat


def _what(values: np.ndarray) -> str:
    return f"shape {values.shape}" if np.isfinite(values).all() else "some that are NaN or infinite"
