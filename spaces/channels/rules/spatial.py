"""Pooling, resizing, reductions, softmax: fine as long as they do not mix channels."""

from __future__ import annotations

from typing import Any

from torch import fx

from spaces.channels.rules.parametric import argument
from spaces.channels.rules.pointwise import varying
from spaces.channels.rules.registry import Context, Labels, rule


def _mixes(context: Context, node: fx.Node, dims: set[int], what: str) -> Labels | None:
    labels = context.labels(node.args[0])
    return context.freeze(labels, f"{what} over the channels", node) if dims & set(varying(labels)) else None


@rule(*(f"{kind}_pool{n}d" for kind in ("max", "avg", "adaptive_avg", "adaptive_max") for n in (1, 2, 3)), "max_pool2d_with_indices")
@rule("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d")
@rule("upsample_linear1d", "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d", "pad", "constant_pad_nd")
def pool(context: Context, node: fx.Node) -> Any:
    """Works on the last axes only; a pad is told by how many it touches."""
    labels, ndim = context.labels(node.args[0]), len(context.shape(node.args[0]))
    name = str(node.target)
    last = len(node.args[1]) // 2 if "pad" in name else int(name[name.index("d.") - 1])  # type: ignore[arg-type]
    mixed = _mixes(context, node, set(range(ndim - last, ndim)), "pooling or padding")
    outputs = context.value(node)
    result = labels if mixed is None else mixed
    return [result] * len(outputs) if isinstance(outputs, tuple | list) else result


@rule("mean.dim", "sum.dim_IntList", "amax", "amin", "var.dim", "var.correction", "std.dim")
def reduce(context: Context, node: fx.Node) -> Labels:
    """A reduction over axes without channels; one over channels would change its meaning when some go."""
    labels, ndim = context.labels(node.args[0]), len(context.shape(node.args[0]))
    given: Any = context.value(argument(node, 1, "dim"))
    dims = {d % ndim for d in ([given] if isinstance(given, int) else given or range(ndim))}
    out = len(context.shape(node))
    if _mixes(context, node, dims, "a reduction") is not None:
        return context.plain(out, "a reduction over the channels", node)
    return labels if out == ndim else labels.squeeze(tuple(dims))


@rule("softmax", "log_softmax", "_softmax")
def softmax(context: Context, node: fx.Node) -> Labels:
    """A softmax over an axis without channels."""
    labels, ndim = context.labels(node.args[0]), len(context.shape(node))
    mixed = _mixes(context, node, {int(argument(node, 1, "dim")) % ndim}, "a softmax")
    return labels if mixed is None else mixed
