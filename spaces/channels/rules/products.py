"""Products of values: matrix products, attention, einsum. What is summed over is tied, what is left keeps its
channels.
"""

from __future__ import annotations

import math
from typing import Any

from torch import fx

from spaces.channels.rules.registry import Call, Context, Label, Labels, argument, rule, varies

_ALIGNED = 16
"""Bytes; the strides of a product of groups are multiples of it."""


@rule("matmul", "bmm", "mm")
def product(context: Context, node: Call) -> Labels:
    """Rows of the first, columns of the second; the inner axes and those of the batch are tied."""
    return _matmul(context, node, node.args[0], node.args[1])


@rule("addmm", "baddbmm")
def sum_and_product(context: Context, node: Call) -> Labels:
    """A matrix product with something added."""
    out = _matmul(context, node, node.args[1], node.args[2])
    added = context.labels(node.args[0])
    for dim, size in enumerate(context.shape(node.args[0])):
        if size > 1:
            context.meet(added[dim], out[dim - len(added) + len(out)])
    return out


def _matmul(context: Context, node: Call, first: Any, second: Any) -> Labels:
    if min(len(context.shape(first)), len(context.shape(second))) < 2:
        return context.freeze_inputs(node, "a product with a vector")
    a, b = context.labels(first), context.labels(second)
    if context.tensor(second) is not None:
        context.axis(second, len(b) - 2, "in"), context.axis(second, len(b) - 1, "out")
    if context.tensor(first) is not None:
        context.axis(first, len(a) - 2, "out"), context.axis(first, len(a) - 1, "in")
    shape = context.shape(node)
    batch = _broadcast(context, node, (first, a[:-2]), (second, b[:-2]), shape[:-2])
    inner = context.meet(a[-1], b[-2])
    out = (*batch, a[-2], b[-1])
    context.cost(node, node.name, math.prod(shape) * context.shape(first)[-1], *out, inner)
    return out


@rule("mv", "dot", "vdot")
def product_with_a_vector(context: Context, node: Call) -> Labels:
    """Sums of products with a vector: what is summed over is tied; removed channels add nothing."""
    first, second = (context.labels(a) for a in node.args[:2])
    context.meet(first[-1], second[0])
    return tuple(first[:-1])


@rule("_grouped_mm", "grouped_mm", "grouped_mm_fallback")
def product_of_groups(context: Context, node: Call) -> Labels:
    """Rows in runs, each with a matrix of its own: the experts of a mixture, all of which stay and keep the
    same places.
    """
    rows, weight, places = node.args[:3]
    labels, shape = context.labels(rows), context.shape(weight)
    if len(labels) != 2 or len(shape) != 3:
        return context.freeze_inputs(node, "a product of groups that is not one of rows with matrices")
    for label in (*context.labels(places), context.axis(weight, 0, "own")):
        context.freeze(label, "experts that are chosen by their number", node)
    inner, out = context.axis(weight, 1, "in"), context.axis(weight, 2, "out")
    context.meet(inner, labels[1])
    for label in (inner, out):
        context.step(_ALIGNED // context.value(rows).element_size(), label)
    context.cost(node, node.name, context.shape(rows)[0] * shape[1] * shape[2], out, inner, labels[0])
    return (labels[0], out)


def _broadcast(
    context: Context,
    node: Call,
    first: tuple[Any, Labels],
    second: tuple[Any, Labels],
    shape: tuple[int, ...],
) -> Labels:
    out: list[Label] = []
    for dim, size in enumerate(shape):
        met: Label | None = None
        for operand, labels in (first, second):
            own = dim - len(shape) + len(labels)
            if own >= 0 and context.shape(operand)[own] == size:
                met = labels[own] if met is None else context.meet(met, labels[own])
        out.append(context.plain("an axis of the batch", node) if met is None else met)
    return tuple(out)


@rule("scaled_dot_product_attention")
def attention(context: Context, node: Call) -> Labels:
    """Heads may go as a whole; places within a head too where the call gives its scale (else the scale would
    change with them).
    """
    query, key, value = (context.labels(a) for a in node.args[:3])
    queries, keys, values = (context.shape(a) for a in node.args[:3])
    for label in (query[-2], key[-2], value[-2]):
        context.freeze(label, "an attention over channels", node)
    batch = _heads(context, node)
    if argument(node, 6, "scale") is None:
        for label in (query[-1], key[-1]):
            context.pinned(
                node, label, "attention scales with the head dimension; expected an explicit scale="
            )
    inner = context.meet(query[-1], key[-1])
    mask = argument(node, 3, "attn_mask")
    if isinstance(mask, fx.Node):
        _meet_mask(context, node, mask, batch)
    if batch:
        context.loci.tag(batch[-1], "heads")
    context.loci.tag(inner, "head_dim")
    context.loci.tag(value[-1], "head_dim")
    macs = math.prod(queries[:-1]) * keys[-2]
    context.cost(node, node.name, macs * queries[-1], *batch, inner)
    context.cost(node, f"{node.name}.values", macs * values[-1], *batch, value[-1])
    return (*batch, context.plain("an axis of positions", node), value[-1])


def _heads(context: Context, node: Call) -> list[Label]:
    """Tie the axes before the last two of queries, keys and values: batch and heads."""
    query, *others = (context.labels(a) for a in node.args[:3])
    queries, *sizes = (context.shape(a) for a in node.args[:3])
    batch: list[Label] = []
    for dim in range(len(query) - 2):
        label = query[dim]
        for other, shape in zip(others, sizes, strict=True):
            if shape[dim] == queries[dim]:
                label = context.meet(label, other[dim])
            elif varies(other[dim]):  # grouped queries: as many heads of the query to each of the keys
                label = context.meet(label, other[dim].repeat(queries[dim] // shape[dim]))
            elif shape[dim] > 1 or not argument(node, 7, "enable_gqa", False):
                context.freeze(label, "heads that share keys", node)
        batch.append(label)
    return batch


def _meet_mask(context: Context, node: Call, mask: fx.Node, batch: list[Label]) -> None:
    """Tie the axes of a mask to those of the batch, which changes, that they lie upon."""
    labels, shape = context.labels(mask), context.shape(mask)
    for dim in range(len(shape)):
        place = dim - len(shape) + len(batch) + 2
        if shape[dim] > 1 and place < len(batch):
            batch[place] = context.meet(batch[place], labels[dim])
        elif shape[dim] > 1:
            context.freeze(labels[dim], "an attention mask", node)


@rule("einsum")
def einsum(context: Context, node: Call) -> Labels:
    """A letter is an axis: the same letter ties."""
    equation, operands = str(node.args[0]).replace(" ", ""), list(node.args[1])
    inputs, arrow, output = equation.partition("->")
    terms = inputs.split(",")
    if "." in equation or not arrow or any(len({*t}) < len(t) for t in terms):
        return context.freeze_inputs(node, "an einsum that is not understood")
    of_letter: dict[str, Label] = {}
    sizes: dict[str, int] = {}
    for operand, term in zip(operands, terms, strict=True):
        for letter, label, size in zip(term, context.labels(operand), context.shape(operand), strict=True):
            if size == 1:  # broadcast against the others, which decide
                of_letter.setdefault(letter, label)
                continue
            of_letter[letter] = context.meet(of_letter[letter], label) if sizes.get(letter, 1) > 1 else label
            sizes[letter] = size
        if context.tensor(operand) is not None:
            for dim, letter in enumerate(term):
                context.axis(operand, dim, "out" if letter in output else "in")
    if len(operands) == 2:
        context.cost(
            node, node.name, math.prod(sizes.get(letter, 1) for letter in of_letter), *of_letter.values()
        )
    return tuple(of_letter[letter] for letter in output)
