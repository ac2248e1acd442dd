"""Element by element: channels pass through, and two operands tie theirs together."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, fx

from spaces.channels.rules.registry import Context, Labels, rule

ACTIVATIONS = (
    "relu",
    "relu6",
    "hardtanh",
    "hardswish",
    "hardsigmoid",
    "silu",
    "gelu",
    "sigmoid",
    "tanh",
    "elu",
    "selu",
    "celu",
    "leaky_relu",
    "mish",
)
DROPOUTS = ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
COPIES = ("clone", "detach", "alias", "contiguous", "to", "_to_copy", "type_as", "lift_fresh_copy", "zeros_like", "ones_like")
FUNCTIONS = (
    "abs",
    "neg",
    "exp",
    "log",
    "sqrt",
    "rsqrt",
    "square",
    "reciprocal",
    "erf",
    "sin",
    "cos",
    "softplus",
    "softsign",
    "log_sigmoid",
)
BOUNDS = ("clamp", "clamp_min", "clamp_max", "pow.Tensor_Scalar", "add.Scalar", "sub.Scalar", "mul.Scalar", "div.Scalar", "rsub.Scalar")
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum", "pow.Tensor_Tensor")


def in_place(names: tuple[str, ...]) -> tuple[str, ...]:
    """Add the variants that overwrite their operand."""
    return (*names, *(f"{name}_" for name in names))


@rule(*in_place(ACTIVATIONS + DROPOUTS + COPIES + FUNCTIONS + BOUNDS))
def unary(context: Context, node: fx.Node) -> Labels:
    """One operand: its channels pass."""
    return context.labels(node.args[0])


@rule(*in_place(BINARY))
def binary(context: Context, node: fx.Node) -> Labels:
    """Two operands: what meets is tied; what is broadcast along the channels of the other has no say."""
    operands = [a for a in node.args[:2] if isinstance(a, fx.Node) and isinstance(context.value(a), Tensor)]
    if not operands:
        return context.plain(len(context.shape(node)), "a number", node)
    if len(operands) == 1:
        return _align(context, operands[0], len(context.shape(node)))[0]
    for parameter, other in (operands, operands[::-1]):
        if context.tensor(parameter) is not None and context.tensor(other) is None:
            return _with_parameter(context, node, other, parameter)
    ndim = len(context.shape(node))
    (first, first_shape), (second, second_shape) = (_align(context, operand, ndim) for operand in operands)
    if varying(first) == varying(second):
        context.loci.unite(first, second)
        return np.where(np.ones(np.broadcast_shapes(first.shape, second.shape), dtype=bool), first, second)
    if not varying(second) and all(second_shape[d] == 1 for d in varying(first)):
        return first
    if not varying(first) and all(first_shape[d] == 1 for d in varying(second)):
        return second
    if varying(first) and varying(second):
        text = "two channel axes meet in one value"
        context.freeze(first, text, node)
        return context.freeze(second, text, node)
    context.loci.unite(first, second)  # with a value without channels: frozen for that value's reason
    return first if varying(first) else second


def _with_parameter(context: Context, node: fx.Node, source: fx.Node, parameter: fx.Node) -> Labels:
    """A layer scale, a position embedding, a buffer of the layer's width: sliced with the channels."""
    ndim = len(context.shape(node))
    labels, _ = _align(context, source, ndim)
    shape, name = context.shape(parameter), str(context.tensor(parameter))
    for dim in varying(labels):
        own = dim - (ndim - len(shape))
        if own >= 0 and shape[own] > 1:
            context.loci.unite(context.axis(name, own, "own"), context.channels(labels, dim, node))
    return labels


def varying(labels: Labels) -> tuple[int, ...]:
    """Return the axes along which a label varies."""
    return tuple(d for d, size in enumerate(labels.shape) if size > 1)


def _align(context: Context, operand: Any, ndim: int) -> tuple[Labels, tuple[int, ...]]:
    """Return labels and shape with leading axes of size 1 up to `ndim`, as broadcasting sees them."""
    labels, shape = context.labels(operand), context.shape(operand)
    missing = (1,) * (ndim - len(shape))
    return labels.reshape(missing + labels.shape), missing + tuple(shape)
