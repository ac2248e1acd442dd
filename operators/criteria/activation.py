"""Importance by the size of a channel's activations."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from operators.criteria.activations import record
from operators.criteria.base import Batches, Criterion, Loss
from operators.criteria.examination import by_segment, examined
from spaces.calling import forward
from spaces.channels.plan import SlicePlan


class Activation(Criterion):
    """Mean absolute activation over samples and positions at the plan's taps; 0 where a segment has no tap.

    Source: METHODS 5; activations as a measure of importance in Molchanov et al. 2017 (arXiv 1611.06440) [P].
    """

    name = "activation"
    of_parent = True

    def score(self, model: nn.Module, batches: Batches, plan: SlicePlan, loss: Loss) -> dict[str, Tensor]:
        with examined(model), torch.no_grad(), record(model, plan) as activations:
            for inputs, _ in batches:
                forward(model, inputs)
        return by_segment(np.nan_to_num(activations.mean(), nan=0.0), plan)
