"""Weights are put into a model."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn


def put_weights(
    model: nn.Module, state: Mapping[str, Tensor], strict: bool = True, assign: bool = False
) -> None:
    """Load tensors by name, as ``load_state_dict`` does.

    safetensors does not keep what torch notes beside the weights, the versions of the modules that wrote
    them, and some modules (torchvision's MNASNet) refuse weights without. There the model's own versions
    hold.

    Args:
        strict: every name must be there, and no other.
        assign: the tensors become the model's own, instead of being copied into its own.
    """
    given = OrderedDict(state)
    versions = getattr(state, "_metadata", None) or getattr(model.state_dict(), "_metadata", None)
    given._metadata = versions  # type: ignore[attr-defined]
    model.load_state_dict(given, strict=strict, assign=assign)
