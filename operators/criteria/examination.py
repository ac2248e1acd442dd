"""Examination of a model that leaves it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from spaces.channels.plan import SlicePlan


@contextmanager
def examined(model: nn.Module) -> Iterator[nn.Module]:
    """Put the model into eval mode; afterwards every module's mode and every buffer is as it was."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    model.eval()
    try:
        yield model
    finally:
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def by_segment(scores: Tensor | np.ndarray, plan: SlicePlan) -> dict[str, Tensor]:
    """Cut scores ``(length,)`` into those of the segments, by name, float32 on the CPU."""
    whole = torch.as_tensor(scores).detach().to("cpu", torch.float32)
    return {name: whole[part].clone() for name, part in plan.starts.items()}
