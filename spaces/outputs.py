"""What a model gives, of whatever structure: its leaves, and how far those of two models are apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from spaces.calling import Inputs, call, example_of

_PLAIN = (Tensor, int, float, str, torch.SymInt, torch.SymFloat, torch.SymBool, type(None))


def leaves(value: Any) -> list[Any]:
    """Return tensors, numbers, texts and None in what a model gives, in order.

    Containers, dataclasses and plain objects are entered, as those that torch knows are
    (``ModelOutput``). Of what is none of these the name of its class stands there. Caches of keys and values
    are left out.
    """
    return [*_leaves(value)]


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors alone."""
    return [leaf for leaf in _leaves(value) if isinstance(leaf, Tensor)]


def distance(found: Any, expected: Any) -> float:
    """Return the largest absolute difference of what two models give over the largest absolute value of
    `expected` (at least 1), leaf by leaf.

    Infinity where structures, shapes, or what is no floating-point number differ, or where one value alone is
    infinite; NaN where values are NaN.
    """
    ours, others = leaves(found), leaves(expected)
    if len(ours) != len(others):
        return float("inf")
    apart = [_apart(a, b) for a, b in zip(ours, others, strict=True)]
    return float("nan") if any(x != x for x in apart) else max(apart, default=0.0)


@contextmanager
def flattened(model: nn.Module, of: Callable[[Any], list[Any]] = leaves) -> Iterator[None]:
    """Have a model give the list of its leaves, of which every kind can be traced; or of what else `of` finds
    in its output.
    """
    handle = model.register_forward_hook(lambda _, args, given: of(given))
    try:
        yield
    finally:
        handle.remove()


def outputs_of(model: nn.Module, inputs: Inputs) -> list[Any]:
    """Return the leaves of what a model gives for the arguments of one forward call, without caches."""
    with uncached(model):
        return leaves(call(model, example_of(inputs)))


def caching(model: nn.Module) -> list[str]:
    """Return the classes of the configurations in a model whose ``use_cache`` is on."""
    return sorted({type(config).__name__ for config in _configs(model)})


@contextmanager
def uncached(model: nn.Module) -> Iterator[None]:
    """Switch ``config.use_cache`` of a model's modules off, and back on afterwards."""
    configs = _configs(model)
    for config in configs:
        config.use_cache = False
    try:
        yield
    finally:
        for config in configs:
            config.use_cache = True


def _configs(model: nn.Module) -> list[Any]:
    configs = {id(c): c for m in model.modules() if (c := m.__dict__.get("config")) is not None}
    return [c for c in configs.values() if getattr(c, "use_cache", None) is True]


def _leaves(value: Any) -> Iterator[Any]:
    for leaf in tree_leaves(value, is_leaf=_is_cache):
        if isinstance(leaf, _PLAIN):
            yield leaf
        elif _is_cache(leaf):
            continue
        elif isinstance(leaf, Mapping):
            yield from _leaves([*leaf.values()])
        elif isinstance(leaf, Sequence | set) and not isinstance(leaf, bytes | range):
            yield from _leaves([*leaf])
        elif hasattr(leaf, "__dict__") and not callable(leaf):
            yield from _leaves(vars(leaf))
        else:
            yield type(leaf).__name__


def _is_cache(value: Any) -> bool:
    return any(kind.__name__ == "Cache" or kind.__name__.endswith("Cache") for kind in type(value).__mro__)


def _apart(a: Any, b: Any) -> float:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        same = type(a) is type(b) and (a == b or (a != a and b != b))
        return 0.0 if same else float("inf")
    if a.shape != b.shape:
        return float("inf")
    if not b.numel():
        return 0.0
    if not b.is_floating_point() and not b.is_complex():
        return 0.0 if (a == b).all() else float("inf")
    apart = (a - b).masked_fill(a == b, 0).abs().max().item()  # infinities that agree are no distance
    return apart / max(1.0, b.abs().masked_fill(b.isinf(), 0).max().item())
