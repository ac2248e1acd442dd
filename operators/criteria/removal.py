"""The loss without a channel, measured by leaving it out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from operators.criteria.base import Batches, Loss
from operators.criteria.examination import examined
from operators.readers import Reader, features, known, readers
from spaces.calling import device_of, forward, placed
from spaces.channels.plan import SlicePlan


def removal_losses(
    model: nn.Module, batches: Batches, plan: SlicePlan, loss: Loss, loci: np.ndarray
) -> np.ndarray:
    """Return by how much the mean loss rises where one channel alone is removed, float64 ``(plan.length,)``.

    What Molchanov et al. 2017 (arXiv 1611.06440) call the oracle [P], with what folding leaves of a channel,
    its mean where the reader has a bias, in the place of zero [O]. It costs a forward pass for every locus;
    the model comes back unchanged.

    Args:
        loci: bool ``(plan.length,)``, which to try; the others are NaN, and so are those that something else
            than a Linear or an ungrouped convolution reads.
    """
    kept = list(batches)
    trials = _Trials(model, plan)
    found = np.full(plan.length, np.nan)
    with examined(model), torch.no_grad(), trials.listening():
        before = _mean_loss(model, kept, loss)
        for locus in np.flatnonzero(loci & known(plan, trials.readers)):
            trials.locus = int(locus)
            found[locus] = _mean_loss(model, kept, loss) - before
    return found


class _Trials:
    """Puts the mean of a channel in its place wherever it is read; the means are those of the first passes,
    in which nothing is tried.
    """

    locus = -1

    def __init__(self, model: nn.Module, plan: SlicePlan) -> None:
        self.readers = readers(model, plan)
        self._sums: dict[str, Tensor] = {}
        self._rows: dict[str, int] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hook the readers while the context is open."""
        handles = [
            module.register_forward_pre_hook(lambda module, inputs, path=path: self._meet(path, inputs))
            for path, (module, _) in self.readers.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _meet(self, path: str, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        module, loci = self.readers[path]
        if self.locus < 0:
            self._count(path, module, inputs[0])
            return None
        places = np.flatnonzero(loci == self.locus)
        if not len(places):
            return None
        given = inputs[0].clone()
        columns = torch.from_numpy(places).to(given.device)
        mean = self._sums[path][columns] / self._rows[path] if module.bias is not None else 0.0
        features(module, given)[..., columns] = mean
        return (given, *inputs[1:])

    def _count(self, path: str, module: Reader, given: Tensor) -> None:
        rows = features(module, given).reshape(-1, features(module, given).shape[-1])
        self._sums[path] = self._sums.get(path, 0.0) + rows.sum(0)
        self._rows[path] = self._rows.get(path, 0) + len(rows)


def _mean_loss(model: nn.Module, batches: Batches, loss: Loss) -> float:
    """Over all samples."""
    losses = [loss(forward(model, inputs), placed(targets, device_of(model))) for inputs, targets in batches]
    return float(torch.cat(losses).double().mean())
