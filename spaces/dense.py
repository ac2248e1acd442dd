"""A multi-layer perceptron of a few plain numbers, which a hyper-parameter search can vary."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dense(nn.Module):
    """Hidden layers of equal width with ReLU and dropout, on flattened inputs; no normalisation, which TIC
    would have to leave out.

    Args:
        width: of each hidden layer.
        depth: number of hidden layers, at least 1.
        dropout: share of the hidden units that are dropped in training.
        inputs: numbers a sample.
        outputs: of the last layer, such as classes.
    """

    def __init__(
        self, width: int = 64, depth: int = 1, dropout: float = 0.0, inputs: int = 64, outputs: int = 10
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for place in range(depth):
            layers += [nn.Linear(width if place else inputs, width), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(width, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, ...)`` to ``(batch, outputs)``."""
        return self.layers(torch.flatten(x, 1))
