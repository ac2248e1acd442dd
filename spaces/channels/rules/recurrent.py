"""Recurrent layers: hidden units go together, in every gate."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from spaces.channels.rules.registry import Call, Context, Label, Labels, rule

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@rule(*(f"{name}.input" for name in GATES))
def recurrent(context: Context, node: Call) -> list[Labels]:
    """Hidden units of the last layer and direction are what comes out; those of layers between are the next
    one's inputs.

    All layers and directions have one hidden size, so their units are tied by position. The first state is
    zeros, or tied too.
    """
    name = str(node.target).split(".")[1]
    gates = GATES[name]
    source, state, weights = node.args[0], node.args[1], list(node.args[2])
    biased, layers, both = bool(node.args[3]), int(node.args[4]), bool(node.args[7])
    directions = 2 if both else 1
    step = len(weights) // (layers * directions)
    if step != (4 if biased else 2):
        return context.freeze_inputs(node, "a recurrent layer with a projection")
    inputs = context.labels(source)
    first_weight = context.tensor(weights[0])
    if first_weight is not None:
        context.tap(node, first_weight, len(inputs) - 1, inputs[-1], at_input=True)
    size = context.shape(weights[1])[1]
    hidden: Label | None = None
    features = inputs[-1]
    for layer in range(layers):
        for direction in range(directions):
            of_layer = weights[(layer * directions + direction) * step :][:step]
            hidden = _layer(context, node, of_layer, (gates, size), features, hidden)
        assert hidden is not None
        # both directions have the same units: what comes out is a grid of directions and units
        features = context.loci.merge([context.plain("two directions", node), hidden], [directions, size])
    assert hidden is not None
    for first in state if isinstance(state, list | tuple) else [state]:
        context.meet(context.labels(first)[-1], hidden)
    if not context.attribute(node, nn.RNNBase, "hidden_size", hidden):
        context.literal(node, size, hidden)
    context.attribute(node, nn.RNNBase, "input_size", inputs[-1])
    last: Any = (context.plain("layers and directions", node), context.plain("the batch", node), hidden)
    return [(*inputs[:-1], features), *(last for _ in range(2 if name == "lstm" else 1))]


def _layer(
    context: Context,
    node: Call,
    weights: list[Any],
    grid: tuple[int, int],
    features: Label,
    hidden: Label | None,
) -> Label:
    """Tie the weights of one layer and direction to what comes in and to the units of the layers before.

    Args:
        weights: of the inputs, of the state, and their biases.
        grid: gates and units, which the rows of every weight are.
        features: of what comes in.
        hidden: units of the layers before, None for the first.

    Returns:
        The units.
    """
    for weight in weights:
        rows = context.axis(weight, 0, "out" if len(context.shape(weight)) == 2 else "own")
        gate, unit = context.split(rows, grid, node)
        if grid[0] > 1:
            context.freeze(gate, "the gates of a recurrent layer", node)
        hidden = unit if hidden is None else context.meet(hidden, unit)
    assert hidden is not None
    context.meet(context.axis(weights[0], 1, "in"), features)
    context.meet(context.axis(weights[1], 1, "in"), hidden)
    positions = math.prod(context.shape(node.args[0])[:-1])
    for weight, columns in zip(weights[:2], (features, hidden), strict=True):
        macs = positions * math.prod(context.shape(weight))
        context.cost(node, context.tensor(weight) or node.name, macs, context.axis(weight, 0, "out"), columns)
    return hidden
