"""Mixtures: a neighbourhood's outputs, weighted, as one model; the weights evolve with its cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.data.base import Inputs
from spaces.calling import forward

Loss = Callable[[Tensor, Tensor], Tensor]


def mixed(
    before: Sequence[float],
    pairs: Sequence[nn.Module],
    inputs: Inputs,
    targets: Tensor,
    loss: Loss,
    deviation: float,
    rng: np.random.Generator,
) -> tuple[float, tuple[float, ...]]:
    """Do one step of a (1+1)-ES on the weights of the neighbourhood's mean output (Lipizzaner [P]); return
    its loss, and the weights.

    Args:
        before: weights so far, none at the first step.
        loss: of outputs and targets, by sample.
        deviation: of what is added to the weights.
    """
    weights = np.array(before if len(before) == len(pairs) else [1 / len(pairs)] * len(pairs))
    tried = np.abs(weights + rng.normal(0, deviation, len(weights)))
    tried /= tried.sum()
    with torch.no_grad():
        # pairs may stay in eval mode: they are loaded again before they are trained
        outputs = torch.stack([forward(pair.eval(), inputs) for pair in pairs])
    old, new = (float(loss(_mean(outputs, w), targets).mean()) for w in (weights, tried))
    return (new, tuple(tried.tolist())) if new < old else (old, tuple(weights.tolist()))


def _mean(outputs: Tensor, weights: np.ndarray) -> Tensor:
    """The weighted mean of outputs ``(pairs, batch, ...)``."""
    return torch.tensordot(torch.from_numpy(weights).to(outputs), outputs, 1)
