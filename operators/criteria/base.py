"""Criteria: importance = f(model, data, plan), one score a locus; higher means keep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from spaces.calling import Inputs
from spaces.channels.plan import SlicePlan

Batches = Iterable[tuple[Inputs, Any]]
Loss = Callable[[Any, Any], Tensor]
"""Outputs and targets to the loss of every sample, shape ``(batch,)``."""


class Criterion(ABC):
    """Scores every channel of a trained model. The model comes back unchanged (mode, gradients, buffers)."""

    name: str
    """What the scores are called in a guide."""

    of_parent: bool = False
    """Whether evaluations report them of every parent. Those of the base model are called ``base_<name>``
    then, and mutations that take whatever scores there are pass them over.
    """

    @abstractmethod
    def score(self, model: nn.Module, batches: Batches, plan: SlicePlan, loss: Loss) -> dict[str, Tensor]:
        """Return the scores of every segment by its name, float32 of shape ``(segment size,)``, finite, on
        the CPU.
        """
