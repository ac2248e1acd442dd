"""Products of two computed values (attention and the like): counted, and frozen until heads are known."""

from __future__ import annotations

import math

from torch import fx

from spaces.channels.rules.registry import Context, Labels, rule


@rule("matmul", "bmm", "mm", "baddbmm", "einsum")
def product(context: Context, node: fx.Node) -> Labels:
    """A matrix product ties whole matrices, not channels: both operands are frozen."""
    sources = node.all_input_nodes
    if len(sources) == 2:
        inner = context.shape(sources[0])[-1]
        batch = context.shape(node)[0] if len(context.shape(node)) > 2 else 1
        context.cost(node, node.name, math.prod(context.shape(node)) * inner // batch)
    return context.freeze_inputs(node, "a product of two computed values")


@rule("scaled_dot_product_attention")
def attention(context: Context, node: fx.Node) -> Labels:
    """Two products: queries with keys, and weights with values."""
    *_, queries, width = context.shape(node.args[0])
    *heads, keys, value = context.shape(node.args[2])
    context.cost(node, node.name, math.prod(heads[1:]) * queries * keys * (width + value))
    return context.freeze_inputs(node, "attention")
