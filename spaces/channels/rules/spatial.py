"""Pooling, padding, resizing: fine as long as they do not move along channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from spaces.channels.rules.registry import Call, Context, Labels, argument, replaced, rule, varies, wide


@rule(
    *(f"{kind}_pool{n}d" for kind in ("max", "avg", "adaptive_avg", "adaptive_max", "lp") for n in (1, 2, 3))
)
@rule("max_pool2d_with_indices", "grid_sampler_2d", "_upsample_nearest_exact2d")
@rule(
    *(
        f"upsample_{kind}"
        for kind in (
            "nearest1d",
            "nearest2d",
            "nearest3d",
            "bilinear2d",
            "bicubic2d",
            "trilinear3d",
            "linear1d",
        )
    )
)
@rule(*(f"{kind}_pad{n}d" for kind in ("reflection", "replication") for n in (1, 2, 3)))
def pool(context: Context, node: Call) -> Any:
    """Works on the last axes only."""
    labels = context.labels(node.args[0])
    name = str(node.target).split(".")[1]
    last = next(int(c) for c in reversed(name) if c.isdigit())
    for source in node.all_input_nodes[1:] if "grid" in name else []:
        for label in context.labels(source):
            context.freeze(label, "a grid of positions", node)
    for label in labels[-last:]:
        context.freeze(label, "pooling, padding or resizing along the channels", node)
    out = (*labels[:-last], *(context.plain("an axis of positions", node) for _ in range(last)))
    value = context.value(node)
    return [out] * len(value) if isinstance(value, tuple | list) else out


@rule("pad", "constant_pad_nd")
def pad(context: Context, node: Call) -> Labels:
    """Constants before and behind: along channels they are positions that always stay; other paddings not
    along channels.
    """
    labels, widths = context.labels(node.args[0]), list(context.value(argument(node, 1, "pad")))
    constant = argument(node, 2, "mode", "constant") == "constant" or "constant" in str(node.target)
    for place in range(len(widths) // 2):
        before, behind = widths[2 * place : 2 * place + 2]
        dim = len(labels) - 1 - place
        if not (before or behind) or not varies(labels[dim]):
            continue
        if not constant or min(before, behind) < 0:
            labels = replaced(labels, dim, context.freeze(labels[dim], "a padding along the channels", node))
            continue
        still = context.plain("a padded position", node)
        labels = replaced(
            labels, dim, np.concatenate([wide(still, before), labels[dim], wide(still, behind)])
        )
    return labels
