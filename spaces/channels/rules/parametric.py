"""Layers with weights: convolutions, linear layers, embeddings, PReLU."""

from __future__ import annotations

import math
from typing import Any

from torch import fx
from torch.nn.modules.conv import _ConvNd

from spaces.channels.rules.registry import Call, Context, Label, Labels, argument, rule


@rule("conv1d", "conv2d", "conv3d")
def convolution(context: Context, node: Call) -> Labels:
    """A filter an output channel, an input slice an input channel; groups divide both alike, a depthwise
    convolution ties the two.
    """
    return _convolve(context, node, transposed=False)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def transposed_convolution(context: Context, node: Call) -> Labels:
    """Like a convolution, with the weight's first two axes exchanged."""
    return _convolve(context, node, transposed=True)


def _convolve(context: Context, node: Call, transposed: bool) -> Labels:
    source, weight = node.args[0], node.args[1]
    groups = int(argument(node, 6, "groups", 1))
    labels, shape = context.labels(source), context.shape(weight)
    dim = len(labels) - (len(shape) - 1)
    for spatial in labels[dim + 1 :]:
        context.freeze(spatial, "a convolution moves along channels", node)
    channels, inputs = labels[dim], context.shape(source)[dim]
    of_group, inner = (
        context.split(channels, (groups, inputs // groups), node) if groups > 1 else (channels, channels)
    )
    filters = _transposed_filters if transposed else _filters
    out = filters(context, node, groups, (channels, of_group, inner))
    if groups > 1:
        context.loci.tag(of_group, "groups" if inputs > groups else "")
        if not context.attribute(node, _ConvNd, "groups", of_group):
            context.literal(node, groups, of_group)
        context.attribute(node, _ConvNd, "in_channels", channels)
        context.attribute(node, _ConvNd, "out_channels", out)
    name = context.tensor(weight) or node.name
    # a filter is applied at every position of the result, a transposed one at every position of the source
    where = context.shape(source if transposed else node)
    positions = math.prod(where[:dim]) * math.prod(where[dim + 1 :])
    # a group's filters see the channels of their group alone
    pair: tuple[Label, ...] = (out, inner) if inputs > groups else (out,)
    if transposed:
        pair = channels, context.axis(weight, 1, "out")
    context.cost(node, name, positions * math.prod(shape), *pair, *labels[:dim])
    _bias(context, node, argument(node, 2, "bias"), out)
    if (owned := context.made_of(weight)) is not None:
        context.tap(node, owned, dim, out)
        context.tap(node, owned, dim, channels, at_input=True)
    return (*labels[:dim], out, *(context.plain("an axis of positions", node) for _ in labels[dim + 1 :]))


def _filters(context: Context, node: Call, groups: int, labels: tuple[Label, Label, Label]) -> Label:
    """Tie a weight ``(out, in / groups, ...)`` to the channels that come in, and return those that come out.

    Args:
        labels: of all channels that come in, of the groups, and of the channels within a group.
    """
    weight, shape = node.args[1], context.shape(node.args[1])
    _, of_group, inner = labels
    if shape[1] > 1 or groups == 1:
        context.meet(context.axis(weight, 1, "in"), inner)
    out = context.axis(weight, 0, "out")
    if groups > 1:
        context.meet(context.split(out, (groups, shape[0] // groups), node)[0], of_group)
    return out


def _transposed_filters(
    context: Context, node: Call, groups: int, labels: tuple[Label, Label, Label]
) -> Label:
    """The same for a weight ``(in, out / groups, ...)``: the channels that come out are a grid of groups and
    of what each puts out.
    """
    weight, shape = node.args[1], context.shape(node.args[1])
    channels, of_group, _ = labels
    context.meet(context.axis(weight, 0, "in"), channels)
    out = context.axis(weight, 1, "out")
    return context.loci.merge([of_group, out], [groups, shape[1]]) if groups > 1 else out


@rule("linear")
def linear(context: Context, node: Call) -> Labels:
    """A row an output feature, a column an input feature."""
    source, weight = node.args[0], node.args[1]
    labels, shape = context.labels(source), context.shape(weight)
    if len(shape) != 2:
        return context.freeze_inputs(node, "a linear layer with a weight of one axis")
    context.meet(context.axis(weight, 1, "in"), labels[-1])
    out = context.axis(weight, 0, "out")
    name = context.tensor(weight) or node.name
    context.cost(
        node, name, math.prod(context.shape(node)[:-1]) * math.prod(shape), out, labels[-1], *labels[:-1]
    )
    _bias(context, node, argument(node, 2, "bias"), out)
    if (owned := context.made_of(weight)) is not None:
        context.tap(node, owned, len(labels) - 1, out)
        context.tap(node, owned, len(labels) - 1, labels[-1], at_input=True)
    return (*labels[:-1], out)


@rule("embedding")
def embedding(context: Context, node: Call) -> Labels:
    """Features of a table; its rows are looked up by number, so all of them stay."""
    weight, index = node.args[0], node.args[1]
    context.freeze(context.axis(weight, 0, "own"), "rows that are looked up by their number", node)
    out = context.axis(weight, 1, "out")
    if (owned := context.made_of(weight)) is not None:
        context.tap(node, owned, len(context.shape(node)) - 1, out)
    return (*context.labels(index), out)


@rule("prelu")
def prelu(context: Context, node: Call) -> Labels:
    """One slope for all, or one a channel."""
    labels = context.labels(node.args[0])
    if context.shape(node.args[1])[0] > 1:
        context.meet(context.axis(node.args[1], 0, "own"), labels[1])
    return labels


@rule("_weight_norm")
def weight_norm(context: Context, node: Call) -> Labels:
    """A weight as direction and length: the lengths follow the rows; what the norm runs over stays."""
    direction, length = node.args[0], node.args[1]
    kept = int(argument(node, 2, "dim", 0))
    labels = context.labels(direction)
    for dim, label in enumerate(labels):
        if dim == kept:
            context.meet(label, context.axis(length, dim, "own"))
        else:
            context.freeze(label, "the norm of a weight", node)
    return labels


def _bias(context: Context, node: Call, bias: Any, out: Label) -> None:
    if isinstance(bias, fx.Node):
        context.meet(context.axis(bias, 0, "own"), out)
