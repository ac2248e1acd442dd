"""What an evaluation takes, counted in multiply-accumulates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from evaluators.cost.planned import PlannedCosts
from evaluators.data.base import Data, Split
from evaluators.inherited.channel_worth import has_norms


@dataclass(frozen=True, eq=False)
class Accounting:
    """Counts the passes of an evaluation, a backward pass as two.

    Attributes:
        planned: costs of genomes; None: they are not known, and nothing is counted.
        data: whose search split scores a model.
        recalibration: the split that gives BatchNorm statistics; None: no split does.
    """

    planned: PlannedCosts | None
    data: Data
    recalibration: Split | None

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of what is told."""
        return ("training_macs",) if self.planned is not None else ()

    def __call__(self, model: nn.Module, genome: np.ndarray, trained: int, tried: float) -> dict[str, float]:
        """Return the MACs of all passes of an evaluation; nothing where they are not known.

        Args:
            model: that was evaluated.
            genome: of it, ``(length,)``.
            trained: samples that passed in training, each forwards and backwards.
            tried: samples that passed forwards otherwise, beside those that scored it.
        """
        if self.planned is None:
            return {}
        split = self.recalibration
        scored = self.data.size("search") + (self.data.size(split) if split and has_norms(model) else 0)
        macs = float(self.planned(genome[None])["macs"][0])
        return {"training_macs": macs * (3.0 * trained + scored + tried)}
