"""What a model costs, counted on the model itself: the definition that all arithmetic is checked against."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from spaces.calling import Example, call, mode
from spaces.structures import rows

COSTS = ("params", "macs", "bytes")


def count(model: nn.Module, inputs: Example) -> dict[str, float]:
    """Count parameters, multiply-accumulates and bytes of a model by running it once on the first sample of
    `inputs`.

    - ``params``: elements of all parameters, trainable or not, tied ones once; buffers are no parameters.
    - ``macs``: multiply-accumulates at batch 1 in eval mode of convolutions, linear layers and matrix
      products (both of an attention: queries with keys, weights with values; a causal mask saves nothing).
      Biases, norms and activations count nothing.
    - ``bytes``: of parameters and buffers as they are held, tied ones once.

    MACs are seen where torch dispatches to its kernels, so that functional calls count like modules. Modes
    and generators stay as they were.

    Args:
        inputs: arguments of one forward call, ``(batch, ...)`` each; a tuple, or by their names.
    """
    single = rows(inputs, slice(1))
    counter = FlopCounterMode(display=False, custom_mapping=_of_groups())
    with (
        mode(model, False),
        _no_gradients(model),
        torch.random.fork_rng(devices=[]),
        _plain_kernels(),
        counter,
    ):
        call(model, single)
    return {
        "params": float(sum(p.numel() for p in model.parameters())),
        "macs": counter.get_total_flops() / 2,
        "bytes": float(sum(t.nbytes for t in chain(model.parameters(), model.buffers()))),
    }


def _of_groups() -> dict[Any, Any]:
    """Return how products of groups (the experts of a mixture) count, which torch's counter does not know:
    torch's own, and where transformers is loaded its fallback.
    """
    fallback = getattr(torch.ops.transformers, "grouped_mm_fallback", None)
    known = [torch.ops.aten._grouped_mm, *([] if fallback is None else [fallback])]
    return dict.fromkeys(known, _grouped_flops)


def _grouped_flops(rows: torch.Size, weight: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * rows[0] * weight[1] * weight[2]


@contextmanager
def _no_gradients(model: nn.Module) -> Iterator[None]:
    """No gradients, and none wanted: the counter follows modules and stops at views of a parameter that wants
    some.
    """
    wanting = [p for p in model.parameters() if p.requires_grad]
    try:
        for p in wanting:
            p.requires_grad_(False)
        with torch.no_grad():
            yield
    finally:
        for p in wanting:
            p.requires_grad_()


@contextmanager
def _plain_kernels() -> Iterator[None]:
    """Have fused attention and recurrent layers take apart into the products that the counter knows."""
    fast = torch.backends.mha.get_fastpath_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's word on Intel GPUs when oneDNN is switched
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
