"""Weights as arrays: how tuned weights travel from a worker to the ledger. No pickle."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn


def pack_weights(model: nn.Module) -> np.ndarray:
    """Return the model's ``state_dict`` as safetensors, uint8 of shape ``(bytes,)``; tied tensors appear
    under each of their names.
    """
    state = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in model.state_dict().items()
        if isinstance(tensor, Tensor)
    }
    return np.frombuffer(safetensors.torch.save(state), dtype=np.uint8)


def unpack_weights(packed: np.ndarray) -> Mapping[str, torch.Tensor]:
    """Return the ``state_dict`` that :func:`pack_weights` made this of."""
    return safetensors.torch.load(packed.tobytes())
