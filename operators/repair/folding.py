"""Folding: what pruned units gave on average goes into the biases of those that read them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from operators.readers import Reader, features, readers
from spaces.calling import forward, mode
from spaces.channels.plan import SlicePlan


def fold(model: nn.Module, plan: SlicePlan, dead: np.ndarray, batches: Iterable[tuple[Any, Any]]) -> None:
    """Add the mean of what is about to be removed to the biases behind it, in place (METHODS 5, bias
    compensation). [P]

    Only Linear and ungrouped convolutions with a bias take it in; of a padded convolution the border is only
    nearly right.

    Args:
        dead: bool ``(plan.length,)``: the loci that go.
        batches: ``(inputs, targets)`` that the means are taken over.
    """
    takers: dict[str, tuple[Reader, Tensor]] = {}
    for path, (module, loci) in readers(model, plan).items():
        gone = (loci >= 0) & dead[loci]
        if module.bias is not None and gone.any():
            takers[path] = module, torch.from_numpy(gone)
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = defaultdict(int)

    def listen(path: str, given: Tensor) -> None:
        channels = features(takers[path][0], given.detach())
        rows = channels.reshape(-1, channels.shape[-1])
        sums[path] = rows.sum(0) + sums.get(path, 0.0)
        counts[path] += len(rows)

    handles = [
        module.register_forward_pre_hook(lambda module, inputs, path=path: listen(path, inputs[0]))
        for path, (module, _) in takers.items()
    ]
    try:
        with mode(model, False), torch.no_grad():
            for inputs, _ in batches:
                forward(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    with torch.no_grad():
        for path, (module, gone) in takers.items():
            if counts[path]:
                mean = sums[path] / counts[path]
                weight = module.weight.flatten(2).sum(2) if module.weight.ndim > 2 else module.weight
                assert module.bias is not None  # or it would not take it
                module.bias += weight[:, gone] @ mean[gone]
