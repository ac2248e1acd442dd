"""The size of each channel's activations: a recorder for full and compact models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from operators.criteria.watching import watched
from spaces.channels.plan import SlicePlan


class Activations:
    """Running means of the absolute outputs of a plan's taps; what :func:`record` gives.

    Attributes:
        plan: says which modules are tapped.
    """

    def __init__(self, plan: SlicePlan, genome: np.ndarray | None = None) -> None:
        self.plan = plan
        self._kept = [tap.levels(genome) for tap in plan.taps]
        self._sums: list[Tensor | None] = [None] * len(plan.taps)
        self._counts = [0] * len(plan.taps)

    def add(self, index: int, output: Tensor) -> None:
        """Take in an output of the tap with this index.

        Raises:
            ValueError: its channels are not those that the genome keeps.
        """
        tap, size = self.plan.taps[index], self._kept[index].shape[1]
        dim = tap.dim % output.ndim
        if output.shape[dim] != size:
            raise ValueError(f"tap {tap.module!r}: {output.shape[dim]} channels, but the genome keeps {size}")
        others = tuple(d for d in range(output.ndim) if d != dim)
        sums = (
            torch.linalg.vector_norm(output.detach(), ord=1, dim=others, dtype=_wide(output))
            if others
            else output.detach().abs()
        )
        before = self._sums[index]
        self._sums[index] = sums if before is None else before + sums
        self._counts[index] += output.numel() // max(size, 1)

    def mean(self) -> np.ndarray:
        """Return the mean absolute activation of every locus over samples, positions and taps, float64 of
        shape ``(length,)``.

        NaN where nothing was seen: loci that the genome drops, segments without a tap, taps that never ran.
        """
        totals, taps = np.zeros(self.plan.length), np.zeros(self.plan.length)
        for levels, sums, count in zip(self._kept, self._sums, self._counts, strict=True):
            if sums is not None and count:
                means = sums.double().cpu().numpy() / count
                for loci in levels:
                    prunable = loci >= 0
                    np.add.at(totals, loci[prunable], means[prunable])
                    np.add.at(taps, loci[prunable], 1)
        return np.divide(totals, taps, out=np.full(self.plan.length, np.nan), where=taps > 0)


@contextmanager
def record(model: nn.Module, plan: SlicePlan, genome: np.ndarray | None = None) -> Iterator[Activations]:
    """Record the outputs of the plan's taps while the context is open.

    Args:
        model: the full model, or the compact one that was built from `genome`.
        plan: of the full model.
        genome: ``(length,)`` of a compact model, None for the full one.
    """
    activations = Activations(plan, genome)
    with watched(model, plan, activations.add):
        yield activations


def _wide(output: Tensor) -> torch.dtype:
    """Sums of half precision overflow."""
    return torch.float32 if output.dtype in (torch.float16, torch.bfloat16) else output.dtype
