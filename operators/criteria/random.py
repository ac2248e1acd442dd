"""The control: importance at random."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from operators.criteria.base import Batches, Criterion, Loss
from operators.criteria.examination import by_segment
from spaces.channels.plan import SlicePlan


class Random(Criterion):
    """Uniform scores in 0 .. 1, the same for the same seed. A method that does not beat it has found nothing.

    Args:
        seed: of the random numbers.
    """

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def score(self, model: nn.Module, batches: Batches, plan: SlicePlan, loss: Loss) -> dict[str, Tensor]:
        return by_segment(np.random.default_rng(self.seed).random(plan.length), plan)
