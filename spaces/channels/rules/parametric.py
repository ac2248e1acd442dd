"""Layers with weights: convolutions, linear layers, batch normalisation."""

from __future__ import annotations

import math
from typing import Any

from torch import fx

from spaces.channels.rules.registry import Context, Labels, rule


def argument(node: fx.Node, index: int, name: str, default: Any = None) -> Any:
    """Return an argument of a call by position or name."""
    return node.args[index] if len(node.args) > index else node.kwargs.get(name, default)


@rule("conv1d", "conv2d", "conv3d")
def convolution(context: Context, node: fx.Node) -> Labels:
    """A filter an output channel, an input slice an input channel; a depthwise convolution ties the two."""
    return _convolve(context, node, groups=argument(node, 6, "groups", 1), outputs=0, inputs=1)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def transposed_convolution(context: Context, node: fx.Node) -> Labels:
    """Like a convolution, with the weight's first two axes exchanged."""
    return _convolve(context, node, groups=argument(node, 6, "groups", 1), outputs=1, inputs=0)


def _convolve(context: Context, node: fx.Node, groups: int, outputs: int, inputs: int) -> Labels:
    source, weight = node.args[0], context.tensor(node.args[1])
    shape = context.shape(node.args[1])
    dim = len(context.shape(node)) - (len(shape) - 1)
    if weight is None:
        return context.freeze_inputs(node, "a convolution whose weight is computed")
    positions = math.prod(context.shape(node)[dim + 1 :]) if outputs == 0 else math.prod(context.shape(source)[dim + 1 :])
    macs = positions * math.prod(shape)
    if groups == 1:
        context.loci.unite(context.axis(weight, inputs, "in"), context.channels(context.labels(source), dim, node))
        channels = context.axis(weight, outputs, "out")
        context.cost(node, weight, macs, (weight, 0), (weight, 1))
    elif groups == shape[0] and shape[1] == 1:  # depthwise: every channel has a filter of its own
        channels = context.axis(weight, 0, "out")
        context.loci.unite(channels, context.channels(context.labels(source), dim, node))
        context.cost(node, weight, macs, (weight, 0))
    else:
        context.cost(node, weight, macs)
        return context.freeze_inputs(node, f"a convolution in {groups} groups of more than one channel")
    return _output(context, node, weight, argument(node, 2, "bias"), channels, dim)


@rule("linear")
def linear(context: Context, node: fx.Node) -> Labels:
    """A row an output feature, a column an input feature."""
    source, weight = node.args[0], context.tensor(node.args[1])
    dim = len(context.shape(node)) - 1
    if weight is None:
        return context.freeze_inputs(node, "a linear layer whose weight is computed")
    context.loci.unite(context.axis(weight, 1, "in"), context.channels(context.labels(source), dim, node))
    positions, shape = math.prod(context.shape(node)[1:-1]), context.shape(node.args[1])
    context.cost(node, weight, positions * math.prod(shape), (weight, 0), (weight, 1))
    return _output(context, node, weight, argument(node, 2, "bias"), context.axis(weight, 0, "out"), dim)


@rule("batch_norm")
def batch_norm(context: Context, node: fx.Node) -> Labels:
    """Scale, shift and running statistics follow the channels."""
    labels = context.labels(node.args[0])
    channels = context.channels(labels, 1, node)
    for index in range(1, 5):
        tensor = context.tensor(node.args[index])
        if tensor is not None:
            context.loci.unite(context.axis(tensor, 0, "own"), channels)
            context.tap(node, tensor, 1, channels)
    return labels


@rule("prelu")
def prelu(context: Context, node: fx.Node) -> Labels:
    """One slope for all, or one a channel."""
    labels, slope = context.labels(node.args[0]), context.tensor(node.args[1])
    if slope is None:
        return context.freeze_inputs(node, "a PReLU whose slope is computed")
    if context.shape(node.args[1])[0] > 1:
        context.loci.unite(context.axis(slope, 0, "own"), context.channels(labels, 1, node))
    return labels


def _output(context: Context, node: fx.Node, weight: str, bias: Any, channels: Any, dim: int) -> Labels:
    if isinstance(bias, fx.Node):
        tensor = context.tensor(bias)
        if tensor is None:
            context.freeze(channels, "a bias that is computed", node)
        else:
            context.loci.unite(context.axis(tensor, 0, "own"), channels)
    context.tap(node, weight, dim, channels)
    shape = [1] * len(context.shape(node))
    shape[dim] = len(channels)
    return channels.reshape(shape)
