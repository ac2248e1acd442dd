"""Reductions and what else runs along an axis: sums skip what is gone, all else over channels would change
its meaning.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx

from spaces.channels.rules.registry import Call, Context, Labels, argument, replaced, rule
from spaces.channels.rules.statistics import is_statistic


def _dims(context: Context, node: Call, place: int, ndim: int) -> set[int]:
    given: Any = context.value(argument(node, place, "dim"))
    given = None if isinstance(given, bool) else given  # whether a variance is unbiased
    return (
        {d % ndim for d in ([given] if isinstance(given, int) else given or range(ndim))} if ndim else set()
    )


def _reduced(context: Context, node: Call, labels: Labels, dims: set[int]) -> Any:
    value = context.value(node)
    first = value if isinstance(value, Tensor) else value[0]
    kept = first.ndim == len(labels)
    out = tuple(
        context.plain("a reduced axis", node) if d in dims else label
        for d, label in enumerate(labels)
        if kept or d not in dims
    )
    return out if isinstance(value, Tensor) else [out for _ in value]


@rule("sum", "linalg_vector_norm", "norm", "nansum")
def total(context: Context, node: Call) -> Labels:
    """A sum (also one of powers): removed channels add nothing, as zeros would."""
    labels = context.labels(node.args[0])
    place = 1 if "sum" in str(node.target) else 2
    return _reduced(context, node, labels, _dims(context, node, place, len(labels)))


@rule("mean", "var", "std", "var_mean", "std_mean")
def statistic(context: Context, node: Call) -> Any:
    """A mean or variance over channels that only centres or scales these is one of the kept ones, as in
    normalisations that are written by hand; any other would change its meaning when some go.
    """
    if not is_statistic(context, node):
        return reduce(context, node)
    labels = context.labels(node.args[0])
    return _reduced(context, node, labels, _dims(context, node, 1, len(labels)))


@rule(
    "amax",
    "amin",
    "max",
    "min",
    "prod",
    "logsumexp",
    "any",
    "all",
    "argmax",
    "argmin",
    "median",
    "aminmax",
)
def reduce(context: Context, node: Call) -> Any:
    """A reduction over axes without channels; one over channels would change its meaning when some go."""
    labels = context.labels(node.args[0])
    if isinstance(argument(node, 1, "other"), fx.Node):  # maximum of two values
        return context.freeze_inputs(node, "max or min of two values; expected maximum or minimum")
    dims = _dims(context, node, 1, len(labels))
    for d in dims:
        context.freeze(
            labels[d], f"{node.target.__name__.split('.')[0]}, a reduction, over the channels", node
        )
    return _reduced(context, node, labels, dims)


@rule("softmax", "log_softmax", "_softmax", "_log_softmax")
def softmax(context: Context, node: Call) -> Labels:
    """Over channels it is a softmax over the kept ones."""
    return context.labels(node.args[0])


@rule("cumsum", "cumprod", "sort", "topk", "roll", "cummax", "logcumsumexp", "diff", "kthvalue")
def along(context: Context, node: Call) -> Any:
    """Order matters along the axis: no channels there."""
    labels = context.labels(node.args[0])
    name = node.target.__name__.split(".")[0]
    given: Any = argument(
        node,
        2 if name in ("topk", "roll", "kthvalue", "diff") else 1,
        "dim" if name != "roll" else "dims",
        -1,
    )
    out = labels
    for d in {
        int(x) % len(labels)
        for x in (given if isinstance(given, list | tuple) and given else [-1 if given == [] else given])
    }:
        context.freeze(labels[d], f"{name} over the channels", node)
        out = replaced(out, d, context.plain(f"{name} over this axis", node))
    value = context.value(node)
    return out if isinstance(value, Tensor) else [out for _ in value]


@rule("triu", "tril", "triu_", "tril_")
def triangle(context: Context, node: Call) -> Labels:
    """One corner of the last two axes becomes zero: no channels there."""
    labels = context.labels(node.args[0])
    still = tuple(context.freeze(label, "a triangle of the channels", node) for label in labels[-2:])
    return (*labels[:-2], *still)
