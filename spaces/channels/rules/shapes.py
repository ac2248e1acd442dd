"""Shape operations: labels move as the values do, because the very same operation is run on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import fx

from spaces.channels.rules.parametric import argument
from spaces.channels.rules.pointwise import varying
from spaces.channels.rules.registry import Context, Labels, rule


@rule(
    "view",
    "reshape",
    "flatten",
    "unflatten",
    "_unsafe_view",
    "permute",
    "transpose",
    "t",
    "unsqueeze",
    "squeeze",
    "movedim",
    "expand",
    "numpy_T",
)
def rearrange(context: Context, node: fx.Node) -> Labels:
    """Views and permutations: allowed as long as every channel stays on one axis."""
    labels, shape = context.labels(node.args[0]), context.shape(node.args[0])
    ndim = len(context.shape(node))
    if not varying(labels):
        return labels.reshape((1,) * ndim)
    moved = node.target(torch.from_numpy(np.ascontiguousarray(labels)).expand(shape), *map(context.value, node.args[1:]))  # type: ignore[operator]
    compact = compress(moved.numpy())
    if len(varying(compact)) != 1:
        return context.freeze(compact, "a reshape that spreads channels over several axes", node)
    return compact


@rule("cat", "concat", "concatenate")
def concatenate(context: Context, node: fx.Node) -> Labels:
    """Channels keep their order, each at its offset; along any other axis they are tied."""
    sources: Any = node.args[0]
    ndim = len(context.shape(node))
    dim = int(argument(node, 1, "dim", 0)) % ndim
    parts = [context.labels(s) for s in sources]
    others = {d for part in parts for d in varying(part) if d != dim}
    if not others:
        widths = [context.shape(s)[dim] for s in sources]
        wide = [np.broadcast_to(part, [w if d == dim else 1 for d in range(ndim)]) for part, w in zip(parts, widths, strict=True)]
        return compress(np.concatenate(wide, axis=dim))
    if len(others) == 1 and all(varying(part) in ((), tuple(others)) for part in parts):
        for part in parts[1:]:
            context.loci.unite(parts[0], part)
        return max(parts, key=np.size)
    for part in parts:
        context.freeze(part, "a concatenation of values whose channels lie on different axes", node)
    return context.plain(ndim, "a concatenation of values whose channels lie on different axes", node)


@rule("slice", "select", "narrow", "split", "split_with_sizes", "chunk", "unbind", "tensor_split")
def part(context: Context, node: fx.Node) -> Any:
    """Parts along an axis without channels; along the channels the sizes in the user's code would no longer fit."""
    labels, shape = context.labels(node.args[0]), context.shape(node.args[0])
    arguments = [context.value(a) for a in node.args[1:]]
    keywords = {k: context.value(v) for k, v in node.kwargs.items()}
    parts = node.target(torch.from_numpy(np.ascontiguousarray(labels)).expand(shape), *arguments, **keywords)  # type: ignore[operator]
    single = isinstance(parts, torch.Tensor)
    pieces = [compress(p.numpy()) for p in ([parts] if single else parts)]
    if any(np.size(p) != np.size(labels) for p in pieces):
        pieces = [context.freeze(p, f"{node.target.__name__.split('.')[0]} divides the channels", node) for p in pieces]  # type: ignore[union-attr]
        context.freeze(labels, f"{node.target.__name__.split('.')[0]} divides the channels", node)  # type: ignore[union-attr]
    return pieces[0] if single else pieces


@rule("getitem")
def getitem(context: Context, node: fx.Node) -> Labels:
    """An item of an operation with several outputs."""
    return context.labels(node.args[0])[node.args[1]]


def compress(labels: Labels) -> Labels:
    """Reduce every axis along which the label does not vary to size 1."""
    for dim, size in enumerate(labels.shape):
        first = labels.take([0], axis=dim)
        if size > 1 and (labels == first).all():
            labels = first
    return labels
