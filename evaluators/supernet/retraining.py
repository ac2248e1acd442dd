"""What a cell is worth: it is trained anew, with all channels."""

from __future__ import annotations

import torch

from evaluators.assessment import assess
from evaluators.counting import count
from evaluators.data.base import Data
from evaluators.data.preloaded import Preloaded
from evaluators.training import Training, fit
from spaces.cells import genotype as text
from spaces.cells.design import Design

_TRAINING = (
    "optimiser",
    "learning_rate",
    "weight_decay",
    "batch_size",
    "schedule",
    "clip",
    "monitor",
    "keep_best",
    "patience",
)


def retrain(
    design: Design,
    data: Data,
    genotype: str,
    seed: int,
    epochs: int,
    training: Training | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Return ``loss`` and metrics of the search split after the last epoch, those of the test split
    (``test_...``), params and macs.

    Args:
        genotype: as text.
        seed: of first weights and the order of samples.
        epochs: of training, in place of those of `training`.
        training: other settings; None: the default ones.
    """
    settings = training or Training()
    arguments = {name: value for name, value in vars(settings).items() if name in _TRAINING}
    torch.manual_seed(seed % 2**63)
    network = design.build(text.read(genotype)).to(device)
    metrics: dict[str, float] = {}
    for report in fit(network, data, Training(**(arguments | {"epochs": epochs}))):
        metrics = report.metrics
    test = assess(network, data, Preloaded(data).batches("test", 256, torch.device(device)))
    cost = count(network, tuple(x.to(device) for x in data.example()))
    return (
        metrics
        | {f"test_{name}": value for name, value in test.items()}
        | {name: cost[name] for name in ("params", "macs")}
    )
