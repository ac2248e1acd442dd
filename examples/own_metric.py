"""A metric of a whole split and a fine-tuning of your own, for examples/own_metric.yaml."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from evaluators import Data
from evaluators.training import TrainingSettings


def macro_f1(outputs: Tensor, targets: Tensor) -> float:
    """Return the mean F1 of all classes: outputs and targets are those of the whole split, on the CPU."""
    predicted, scores = outputs.argmax(1), []
    for label in range(outputs.shape[1]):
        right = ((predicted == label) & (targets == label)).sum()
        scores.append(2 * right / ((predicted == label).sum() + (targets == label).sum()).clamp(min=1))
    return float(torch.stack(scores).mean())


def tune(model: nn.Module, data: Data, settings: TrainingSettings) -> Iterator[dict[str, float]]:
    """Train in place by an optimiser that ours does not have; what is yielded is shown while it runs."""
    model.train()
    optimiser = torch.optim.RAdam((p for p in model.parameters() if p.requires_grad), settings.learning_rate)
    for epoch in range(settings.epochs):
        order = torch.Generator().manual_seed(epoch)
        for inputs, targets in data.batches("train", settings.batch_size, order):
            loss = data.loss(model(inputs), targets).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        yield {"last_loss": loss.item()}
