"""BatchNorm recalibration: the statistics of a model that lost channels are not those it was trained with."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from spaces.calling import Inputs, forward
from spaces.structures import samples

_MIN_SAMPLES = 2  # a single sample has no variance


def recalibrate(model: nn.Module, batches: Iterable[tuple[Inputs, Any]], limit: int | None = None) -> int:
    """Replace the running statistics of every BatchNorm by the average over `batches`, in place; targets are
    not looked at.

    Reset, then the cumulative average over batches of the batch mean and the (unbiased) batch variance, while
    everything but BatchNorm is in eval mode. Source: METHODS 5, the usual repair [P]. Modes and momenta come
    back as they were; layers that keep no running statistics, those with an attribute ``fixed`` that is true
    (a frozen network around searched cells) and models without BatchNorm are left alone, and then no batch is
    drawn.

    Args:
        limit: at most so many batches; None for all. Batches of a single sample are passed over.

    Returns:
        the number of batches used; where it is 0 the statistics are as before.
    """
    layers = [
        m
        for m in model.modules()
        if isinstance(m, _BatchNorm) and m.running_mean is not None and not getattr(m, "fixed", False)
    ]
    if not layers:
        return 0
    modes = [(module, module.training) for module in model.modules()]
    momenta = [layer.momentum for layer in layers]
    used = 0
    try:
        model.eval()
        with torch.no_grad():
            for inputs, _ in islice(batches, limit):
                if samples(inputs) < _MIN_SAMPLES:
                    continue
                if not used:  # not before: without a batch the statistics stay as they were
                    for layer in layers:
                        layer.reset_running_stats()
                        layer.momentum = None  # the cumulative average
                        layer.train()
                forward(model, inputs)
                used += 1
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, mode in modes:
            module.training = mode
    return used
