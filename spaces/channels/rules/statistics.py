"""Normalisations that are written by hand: means over channels that come back to these channels. [O]"""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import fx

from spaces.channels.rules.pointwise import binary, unary
from spaces.channels.rules.registry import Call, Context, find, operation_name
from spaces.channels.rules.shapes import reshape, squeeze, unsqueeze

ROOTS = ("sqrt", "rsqrt", "pow", "reciprocal", "exp", "log")
"""Between a mean of squares and the channels that it scales."""


def is_statistic(context: Context, node: Call) -> bool:
    """Whether what a reduction gives only centres or scales the channels that it was made of.

    So it is where it is subtracted from them, divides them, or multiplies them behind a root: LayerNorm,
    RMSNorm and others, in any spelling. A smaller model then normalises over what it keeps.
    """
    waiting: list[tuple[fx.Node, bool]] = [(node, False)]
    meets = False
    for value, rooted in waiting:  # which become more on the way
        for user in value.users:
            rule, name = find(user.target), _name(user)
            if (
                name == "getitem" or _size(context, user) == 0
            ):  # a part of var_mean, a question about its size
                waiting += [(user, rooted)] if name == "getitem" else []
            elif rule in (unary, binary, reshape, squeeze, unsqueeze) and _is_narrow(context, value, user):
                waiting.append((user, rooted or name in ROOTS))
            elif rule is binary and _scales(name, value, user, rooted):
                meets = True
                if not all(_related(context, node.args[0], other) for other in _others(context, value, user)):
                    return False
            else:
                return False
    return meets


def _scales(name: str, value: fx.Node, user: fx.Node, rooted: bool) -> bool:
    """Whether a statistic is used here as normalisations use it."""
    return name in ("sub", "rsub") or (name == "mul" and rooted) or (name == "div" and user.args[1] is value)


def _others(context: Context, value: fx.Node, user: fx.Node) -> Iterator[fx.Node]:
    return (other for other in user.all_input_nodes if other is not value and context.shape(other))


def _related(context: Context, first: fx.Node, second: fx.Node) -> bool:
    """Whether two values of a shape are made of a common one, element by element."""
    return context.shape(first) == context.shape(second) and not _family(context, first).isdisjoint(
        _family(context, second)
    )


def _family(context: Context, node: fx.Node) -> set[fx.Node]:
    """Return a value and those of its shape that it is made of, element by element."""
    found, waiting = {node}, [node]
    for value in waiting:
        if find(value.target) in (unary, binary):
            sources = {s for s in value.all_input_nodes if context.shape(s) == context.shape(node)} - found
            found |= sources
            waiting += sources
    return found


def _is_narrow(context: Context, value: fx.Node, user: fx.Node) -> bool:
    return _size(context, user) == _size(context, value)


def _size(context: Context, node: fx.Node) -> int:
    """Return how many numbers a value has, 0 where it is no tensor."""
    return math.prod(context.shape(node)) if hasattr(context.value(node), "shape") else 0


def _name(node: fx.Node) -> str:
    return operation_name(node.target).split(".")[0].rstrip("_") if node.op == "call_function" else ""
