"""Looking up and scattering rows by number: the rows are positions that stay, the features beside them keep
their channels.
"""

from __future__ import annotations

from typing import Any

from torch import fx

from spaces.channels.rules.registry import Call, Context, Label, Labels, argument, replaced, rule


@rule("index_select")
def index_select(context: Context, node: Call) -> Labels:
    """Rows by number."""
    labels = context.labels(node.args[0])
    dim = int(argument(node, 1, "dim")) % len(labels)
    context.freeze(labels[dim], "positions are looked up by their number", node)
    return replaced(labels, dim, context.plain("positions that were looked up", node))


@rule("index")
def index(context: Context, node: Call) -> Labels:
    """Positions by tensors of numbers; these stand beside each other."""
    labels, indices = context.labels(node.args[0]), list(node.args[1])
    places = [d for d, i in enumerate(indices) if i is not None]
    for d in places:
        context.freeze(labels[d], "positions are looked up by their number", node)
        context_labels = context.labels(indices[d])
        for label in context_labels:
            context.freeze(label, "numbers of positions", node)
    if places != list(range(places[0], places[-1] + 1)) or any(
        "bool" in str(context.value(indices[d]).dtype) for d in places
    ):
        return context.freeze_inputs(node, "an index with gaps, or by a mask")
    new = len(context.shape(node)) - (len(labels) - len(places))
    found = tuple(context.plain("positions that were looked up", node) for _ in range(new))
    return (*labels[: places[0]], *found, *labels[places[-1] + 1 :])


@rule("gather", "take_along_dim")
def gather(context: Context, node: Call) -> Labels:
    """As many numbers as positions: the other axes are tied."""
    return _along(
        context, node, [node.args[0], node.args[2]], int(argument(node, 1, "dim")), context.shape(node)
    )


@rule("scatter", "scatter_", "scatter_add", "scatter_add_", "scatter_reduce", "scatter_reduce_")
def scatter(context: Context, node: Call) -> Labels:
    """Rows into rows by number: the axes beside them are tied."""
    source = argument(node, 3, "src")
    operands = [node.args[0], argument(node, 2, "index"), *([source] if isinstance(source, fx.Node) else [])]
    return _along(context, node, operands, int(argument(node, 1, "dim")), context.shape(node))


@rule("index_add", "index_add_", "index_copy", "index_copy_", "index_reduce", "index_reduce_")
def index_add(context: Context, node: Call) -> Labels:
    """Rows are added to rows by number."""
    return _along(
        context,
        node,
        [node.args[0], argument(node, 3, "source")],
        int(argument(node, 1, "dim")),
        context.shape(node),
    )


def _along(context: Context, node: Call, operands: list[Any], dim: int, shape: tuple[int, ...]) -> Labels:
    dim %= len(shape)
    out: list[Label] = []
    for d, size in enumerate(shape):
        met: Label | None = None
        for operand in operands:
            label = context.labels(operand)[d]
            if d == dim or context.shape(operand)[d] != size:
                context.freeze(label, "positions are looked up by their number", node)
            else:
                met = label if met is None else context.meet(met, label)
        out.append(context.plain("positions that were looked up", node) if met is None else met)
    return tuple(out)
