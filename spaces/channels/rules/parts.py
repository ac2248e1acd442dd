"""Parts of values: slices, chunks, splits, items."""

from __future__ import annotations

from typing import Any

from spaces.channels.rules.registry import Call, Context, Label, Labels, argument, replaced, rule, varies


@rule("slice", "narrow")
def part(context: Context, node: Call) -> Labels:
    """A run of positions. Halves keep as many channels each; else what is counted off in the call
    must stay.
    """
    labels, shape = context.labels(node.args[0]), context.shape(node.args[0])
    dim = int(argument(node, 1, "dim", 0)) % len(shape)
    start, stop, step = _bounds(context, node, shape[dim])
    if not varies(labels[dim]) or (start, stop, step) == (0, shape[dim], 1):
        return labels
    label, size = labels[dim], shape[dim]
    if step != 1:
        return replaced(labels, dim, context.freeze(label, "a slice with a step over the channels", node))
    if 2 * (stop - start) == size and start in (0, stop - start):
        return replaced(labels, dim, _equal(context, node, label, 2, size)[1])
    counted = label[: stop if stop < size else start]
    context.freeze(counted, "channels that a slice counts off", node)
    return replaced(labels, dim, label[start:stop])


def _bounds(context: Context, node: Call, size: int) -> tuple[int, int, int]:
    if "narrow" in str(node.target):
        start = int(context.value(node.args[2]))
        start += size if start < 0 else 0
        return start, start + int(context.value(node.args[3])), 1
    start, stop = context.value(argument(node, 2, "start")), context.value(argument(node, 3, "end"))
    first, last, step = slice(start, stop, context.value(argument(node, 4, "step", 1))).indices(size)
    return first, last, step


@rule("chunk", "split", "split_with_sizes", "tensor_split")
def divide(context: Context, node: Call) -> list[Labels]:
    """Equal parts keep the same places each, so that they stay equal; parts of other sizes each keep what
    they like.
    """
    labels, shape = context.labels(node.args[0]), context.shape(node.args[0])
    dim = int(argument(node, 2, "dim", 0)) % len(shape)
    sizes = [int(piece.shape[dim]) for piece in context.value(node)]
    label = labels[dim]
    if not varies(label) or len(sizes) == 1:
        return [labels for _ in sizes]
    # the sizes that the call itself gives, which must follow: a list, or one number for all parts
    given: Any = node.args[1] if isinstance(node.args[1], list | tuple) else None
    if len({*sizes}) == 1:
        inner = _equal(context, node, label, len(sizes), shape[dim])[1]
        numbers = [] if "chunk" in str(node.target) else [node.args[1]] if given is None else given
        for place, number in enumerate(numbers):
            context.literal(node, number, inner, place)
        return [replaced(labels, dim, inner) for _ in sizes]
    if given is None:
        context.freeze(label, "a division of the channels into parts of different sizes", node)
    # parts of different sizes: each has its own positions of the axis, and its own number to follow
    pieces, start = [], 0
    for index, size in enumerate(sizes):
        piece = label[start : start + size]
        if given is not None and len(given) == len(sizes):
            context.literal(node, given[index], piece, index)
        if len(piece) <= 1:
            piece = context.freeze(piece, "a part of one channel", node)
        pieces.append(replaced(labels, dim, piece))
        start += size
    return pieces


def _equal(context: Context, node: Call, label: Label, parts: int, size: int) -> tuple[Label, Label]:
    outer, inner = context.split(label, (parts, size // parts), node)
    context.freeze(outer, "equal parts, all of which stay", node)
    return outer, inner


@rule("select")
def select(context: Context, node: Call) -> Labels:
    """One position: along channels it is counted off, so all of them stay."""
    labels = context.labels(node.args[0])
    dim = int(argument(node, 1, "dim")) % len(labels)
    context.freeze(labels[dim], "one of the positions is taken by its number", node)
    return (*labels[:dim], *labels[dim + 1 :])


@rule("unbind")
def unbind(context: Context, node: Call) -> list[Labels]:
    """Every position on its own."""
    labels = context.labels(node.args[0])
    dim = int(argument(node, 1, "dim", 0)) % len(labels)
    context.freeze(labels[dim], "the positions are taken one by one", node)
    return [(*labels[:dim], *labels[dim + 1 :]) for _ in context.value(node)]


@rule("getitem")
def getitem(context: Context, node: Call) -> Any:
    """An item of an operation with several outputs."""
    return context.labels(node.args[0])[node.args[1]]
