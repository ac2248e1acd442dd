"""What a cell is worth: it is trained anew, with all channels."""

from __future__ import annotations

from dataclasses import replace

import torch

from evaluators.assessment import assess
from evaluators.cost.counting import count
from evaluators.data.base import Data
from evaluators.data.preloaded import Preloaded
from evaluators.training.evaluator import Training, fit
from evaluators.training.settings import TrainingSettings
from spaces.calling import placed
from spaces.cells import genotype as text
from spaces.cells.design import Design


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
    given = TrainingSettings() if training is None else training.settings
    settings = replace(given, epochs=epochs, distillation=None)  # a cell that is trained anew has no teacher
    torch.manual_seed(seed % 2**63)
    network = design.build(text.read(genotype)).to(device)
    metrics: dict[str, float] = {}
    for report in fit(network, data, settings):
        metrics = report.metrics
    test = assess(network, data, Preloaded(data).batches("test", 256, torch.device(device)))
    cost = count(network, placed(data.example(), device))
    return (
        metrics
        | {f"test_{name}": value for name, value in test.items()}
        | {name: cost[name] for name in ("params", "macs")}
    )
