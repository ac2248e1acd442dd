"""The regime gauge: how far training has moved the weights, since the theory holds where they hardly move."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class RegimeGauge:
    """Relative movement ``||theta - theta_0|| / ||theta_0||`` of the parameters that learn. [O]

    TIC's correlation with the gap holds near the regime of the neural tangent kernel, and is lost outside
    (arXiv 2602.23219). [P]

    Args:
        model: at the beginning of its training.
        state: the beginning as :meth:`state` gave it, for a training that is resumed; None: the model as it
            is.
    """

    def __init__(self, model: nn.Module, state: Mapping[str, Tensor] | None = None) -> None:
        beginning = {n: p for n, p in model.named_parameters() if p.requires_grad} if state is None else state
        self._beginning = {name: tensor.detach().clone() for name, tensor in beginning.items()}
        self._norm = _norm(self._beginning)

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> float:
        """Return the movement since; infinite where all weights began at zero."""
        parameters = dict(model.named_parameters())
        moved = _norm(
            {
                name: parameters[name] - before.to(parameters[name].device)
                for name, before in self._beginning.items()
            }
        )
        return moved / self._norm if self._norm else float("inf") if moved else 0.0

    def state(self) -> dict[str, Tensor]:
        """Return the beginning, for a checkpoint."""
        return dict(self._beginning)


def _norm(tensors: Mapping[str, Tensor]) -> float:
    return (
        float(torch.stack([tensor.double().square().sum() for tensor in tensors.values()]).sum().sqrt())
        if tensors
        else 0.0
    )
