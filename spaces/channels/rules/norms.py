"""Normalisations: scale and shift follow the channels; what reduces over channels reduces over
the kept ones.
"""

from __future__ import annotations

from torch import fx, nn
from torch.nn.modules.instancenorm import _InstanceNorm

from spaces.channels.rules.registry import Call, Context, Label, Labels, argument, replaced, rule, varies


@rule("batch_norm")
def batch_norm(context: Context, node: Call) -> Labels:
    """Scale, shift and running statistics follow the channels."""
    labels = context.labels(node.args[0])
    _own(context, node, labels[1], 1, range(1, 5))
    return labels


@rule("instance_norm")
def instance_norm(context: Context, node: Call) -> Labels:
    """As batch normalisation, over the positions of each sample."""
    labels = context.labels(node.args[0])
    for spatial in labels[2:]:
        context.freeze(spatial, "a normalisation over positions that are channels", node)
    _own(context, node, labels[1], 1, range(1, 5))
    context.attribute(node, _InstanceNorm, "num_features", labels[1])
    return labels


@rule("layer_norm", "rms_norm")
def layer_norm(context: Context, node: Call) -> Labels:
    """Over the last axis: mean and variance are those of the kept channels. Over several axes: no channel may
    go.
    """
    labels, given = context.labels(node.args[0]), node.args[1]
    last = len(given)
    if last > 1:
        for label in labels[-last:]:
            context.freeze(label, "a normalisation over several axes", node)
        return labels
    _own(context, node, labels[-1], len(labels) - 1, range(2, 4 if "layer" in str(node.target) else 3))
    if not context.attribute(node, (nn.LayerNorm, nn.RMSNorm), "normalized_shape", labels[-1]):
        context.literal(node, context.value(given)[0], labels[-1])
    return labels


@rule("group_norm")
def group_norm(context: Context, node: Call) -> Labels:
    """Every group keeps as many channels, the same places of each; whole groups may go."""
    labels, groups = context.labels(node.args[0]), int(argument(node, 1, "num_groups"))
    for spatial in labels[2:]:
        context.freeze(spatial, "a normalisation over positions that are channels", node)
    channels, size = labels[1], context.shape(node.args[0])[1]
    if groups > 1:
        of_group, inner = context.split(channels, (groups, size // groups), node)
        channels = context.loci.merge([of_group, inner], [groups, size // groups])
        if varies(of_group):
            context.loci.tag(of_group, "groups" if size > groups else "")
            if not context.attribute(node, nn.GroupNorm, "num_groups", of_group):
                context.literal(node, groups, of_group)
    _own(context, node, channels, 1, range(2, 4))
    context.attribute(node, nn.GroupNorm, "num_channels", channels)
    return replaced(labels, 1, channels)


def _own(context: Context, node: Call, label: Label, dim: int, places: range) -> None:
    for index in places:
        tensor = argument(node, index, "")
        if isinstance(tensor, fx.Node):
            context.meet(context.axis(tensor, 0, "own"), label)
            name = context.tensor(tensor)
            if name is not None:
                context.tap(node, name, dim, label)
