"""Readers of a group's channels: the layers whose inputs a plan cuts."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from spaces.channels.plan import SlicePlan

Reader = nn.Linear | _ConvNd


def readers(model: nn.Module, plan: SlicePlan) -> dict[str, tuple[Reader, np.ndarray]]:
    """Return every Linear and ungrouped convolution that reads prunable channels, with the locus of each
    input (-1 for none), by path.
    """
    found: dict[str, tuple[Reader, np.ndarray]] = {}
    for axis in plan.axes:
        path = axis.tensor.rpartition(".")[0]
        module = model.get_submodule(path)
        if axis.role == "in" and axis.dim == 1 and isinstance(module, Reader) and _reads_channels(module):
            found[path] = module, axis.loci
    return found


def known(plan: SlicePlan, by: dict[str, tuple[Reader, np.ndarray]]) -> np.ndarray:
    """Return the loci that no other layer reads, bool ``(plan.length,)``."""
    told, whole = np.zeros(plan.length, dtype=bool), np.ones(plan.length, dtype=bool)
    for axis in plan.axes:
        if axis.role == "in":
            loci = axis.loci[axis.loci >= 0]
            told[loci] = True
            whole[loci] &= axis.tensor.rpartition(".")[0] in by
    return told & whole


def features(module: Reader, given: Tensor) -> Tensor:
    """Return a reader's input with its channels last, a view."""
    return given.movedim(1, -1) if isinstance(module, _ConvNd) else given


def _reads_channels(module: Reader) -> bool:
    return not (isinstance(module, _ConvNd) and (module.groups > 1 or isinstance(module, _ConvTransposeNd)))
