"""Folding: what pruned units gave on average goes into the biases of those that read them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from operators.forward import forward
from spaces.channels.plan import SlicePlan
from spaces.channels.trace import mode


def fold(model: nn.Module, plan: SlicePlan, dead: np.ndarray, batches: Iterable[tuple[Any, Any]]) -> None:
    """Add the mean of what is about to be removed to the biases behind it, in place (METHODS 5, bias compensation). [P]

    Only Linear and ungrouped convolutions with a bias take it in; of a padded convolution the border is only nearly right.

    Args:
        dead: bool ``(plan.length,)``: the loci that go.
        batches: ``(inputs, targets)`` that the means are taken over.
    """
    readers: dict[str, tuple[nn.Linear | _ConvNd, Tensor]] = {}
    for axis in plan.axes:
        path = axis.tensor.rpartition(".")[0]
        module = model.get_submodule(path)
        gone = (axis.loci >= 0) & dead[axis.loci]
        if axis.role == "in" and axis.dim == 1 and gone.any() and isinstance(module, nn.Linear | _ConvNd) and _takes(module):
            readers[path] = module, torch.from_numpy(gone)
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = defaultdict(int)

    def listen(path: str, given: Tensor) -> None:
        features = given.detach().movedim(1, -1) if isinstance(readers[path][0], _ConvNd) else given.detach()
        rows = features.reshape(-1, features.shape[-1])
        sums[path] = rows.sum(0) + sums.get(path, 0.0)
        counts[path] += len(rows)

    handles = [
        module.register_forward_pre_hook(lambda module, inputs, path=path: listen(path, inputs[0])) for path, (module, _) in readers.items()
    ]
    try:
        with mode(model, False), torch.no_grad():
            for inputs, _ in batches:
                forward(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    with torch.no_grad():
        for path, (module, gone) in readers.items():
            if counts[path]:
                mean = sums[path] / counts[path]
                weight = module.weight.flatten(2).sum(2) if module.weight.ndim > 2 else module.weight
                assert module.bias is not None  # or it would not take it
                module.bias += weight[:, gone] @ mean[gone]


def _takes(module: nn.Linear | _ConvNd) -> bool:
    if isinstance(module, _ConvNd) and (module.groups > 1 or isinstance(module, _ConvTransposeNd)):
        return False
    return module.bias is not None
