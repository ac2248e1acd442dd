"""Shape operations: every axis takes its label along; axes that are divided or joined do the same to their
channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spaces.channels.attention import Attention
from spaces.channels.rules.registry import Call, Context, Label, Labels, argument, replaced, rule, varies


@rule("view", "reshape", "flatten", "unflatten", "_unsafe_view", "view_as", "reshape_as")
def reshape(context: Context, node: Call) -> Labels:
    """Axes that are joined give products, an axis that is divided is a grid; numbers in the call must follow
    the channels.
    """
    labels, before, after = context.labels(node.args[0]), context.shape(node.args[0]), context.shape(node)
    out: list[Label] = [context.plain("an axis of size 1", node)] * len(after)
    for sources, targets in _runs(before, after):
        if len(sources) == len(targets) == 1:
            out[targets[0]] = labels[sources[0]]
        elif any(varies(labels[d]) for d in sources):
            whole = context.loci.merge([labels[d] for d in sources], [before[d] for d in sources])
            for d, label in zip(
                targets, context.split(whole, [after[d] for d in targets], node), strict=True
            ):
                out[d] = label
        else:
            for d in targets:
                out[d] = labels[sources[0]]
    _follow(context, node, out, after)
    return tuple(out)


def _follow(context: Context, node: Call, out: list[Label], after: tuple[int, ...]) -> None:
    """Note the numbers of a call that must follow the channels of its result."""
    numbers = _numbers(node, len(after))
    first = next((d for d, number in enumerate(numbers) if number is not None), 0)
    for d, number in enumerate(numbers):
        if isinstance(number, int) and number == after[d] and varies(out[d]):
            # the only numbers of our stand-in for an attention that follow are its heads
            if context.attribute(node, Attention, "num_heads", out[d]):
                context.loci.tag(out[d], "heads")
                context.loci.tag(out[d + 1], "head_dim")
            else:
                context.literal(node, number, out[d], d - first)


def _numbers(node: Call, ndim: int) -> list[Any]:
    """Return the sizes that a call gives for the axes of its result, None where it gives none."""
    name = str(node.target)
    if "unflatten" in name:
        sizes: Any = node.args[2]
        first = int(node.args[1])
        first = first if first >= 0 else first + ndim - len(sizes) + 1
        return [None] * first + list(sizes) + [None] * (ndim - first - len(sizes))
    given = argument(node, 1, "shape")
    return list(given) if isinstance(given, list | tuple) and len(given) == ndim else [None] * ndim


def _runs(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Pair the shortest runs of axes with equal products; axes of size 1 are left out."""
    sources, targets = [d for d, s in enumerate(before) if s != 1], [d for d, s in enumerate(after) if s != 1]
    runs, i, j = [], 0, 0
    while i < len(sources) and j < len(targets):
        first, second = [sources[i]], [targets[j]]
        a, b = before[sources[i]], after[targets[j]]
        # the shorter run takes in its next axis until both hold as much
        while a != b:
            if a < b:
                i += 1
                first.append(sources[i])
                a *= before[sources[i]]
            else:
                j += 1
                second.append(targets[j])
                b *= after[targets[j]]
        runs.append((first, second))
        i, j = i + 1, j + 1
    return runs


@rule("permute")
def permute(context: Context, node: Call) -> Labels:
    """Axes in another order."""
    labels = context.labels(node.args[0])
    return tuple(labels[int(d)] for d in argument(node, 1, "dims"))


@rule("transpose", "swapaxes", "swapdims")
def transpose(context: Context, node: Call) -> Labels:
    """Two axes change places."""
    labels = list(context.labels(node.args[0]))
    a, b = int(node.args[1]), int(node.args[2])
    labels[a], labels[b] = labels[b], labels[a]
    return tuple(labels)


@rule("t", "numpy_T", "mT", "adjoint")
def turn(context: Context, node: Call) -> Labels:
    """All axes, or the last two, in reverse."""
    labels = context.labels(node.args[0])
    return labels[::-1] if "mT" not in str(node.target) else (*labels[:-2], labels[-1], labels[-2])


@rule("movedim", "moveaxis")
def movedim(context: Context, node: Call) -> Labels:
    """Axes move to other places."""
    labels = context.labels(node.args[0])
    source, target = ([int(d) for d in ([a] if isinstance(a, int) else a)] for a in node.args[1:3])
    rest = [d for d in range(len(labels)) if d not in {s % len(labels) for s in source}]
    for s, t in sorted(zip(source, target, strict=True), key=lambda pair: pair[1] % len(labels)):
        rest.insert(t % len(labels), s % len(labels))
    return tuple(labels[d] for d in rest)


@rule("unsqueeze")
def unsqueeze(context: Context, node: Call) -> Labels:
    """An axis of size 1 more."""
    labels = context.labels(node.args[0])
    dim = int(node.args[1]) % (len(labels) + 1)
    return (*labels[:dim], context.plain("an axis of size 1", node), *labels[dim:])


@rule("squeeze")
def squeeze(context: Context, node: Call) -> Labels:
    """Axes of size 1 less; all of them only where no channel axis could shrink to 1."""
    labels, shape = context.labels(node.args[0]), context.shape(node.args[0])
    given = argument(node, 1, "dim")
    if given is None:
        for label in labels:
            context.freeze(label, "a squeeze of every axis of size 1; expected squeeze(dim)", node)
        dims = {d for d, size in enumerate(shape) if size == 1}
    else:
        dims = {d % len(shape) for d in ([given] if isinstance(given, int) else given) if shape[d] == 1}
        for d in [given] if isinstance(given, int) else given:
            if shape[d] > 1:
                context.freeze(
                    labels[d], "a squeeze that would remove the axis if a single channel were left", node
                )
    return tuple(label for d, label in enumerate(labels) if d not in dims)


@rule("expand", "expand_as", "broadcast_to")
def expand(context: Context, node: Call) -> Labels:
    """Copies along an axis are all the same: they may be tied to whatever they meet."""
    labels, before, after = context.labels(node.args[0]), context.shape(node.args[0]), context.shape(node)
    sizes = argument(node, 1, "size")
    out: list[Label] = []
    for dim, size in enumerate(after):
        own = dim - len(after) + len(before)
        if own >= 0 and before[own] == size:
            out.append(labels[own])
        else:
            out.append(context.loci.new(size))
            if isinstance(sizes, list | tuple) and isinstance(sizes[dim], int) and sizes[dim] != -1:
                context.literal(node, sizes[dim], out[-1], dim)
    return tuple(out)


@rule("repeat", "tile")
def repeat(context: Context, node: Call) -> Labels:
    """Whole copies behind each other."""
    labels, before, after = context.labels(node.args[0]), context.shape(node.args[0]), context.shape(node)
    out: list[Label] = []
    for dim, size in enumerate(after):
        own = dim - len(after) + len(before)
        if own < 0 or before[own] == 1:
            out.append(context.loci.new(size))
            context.literal(node, size, out[-1])
        else:
            out.append(np.tile(labels[own], size // before[own]) if varies(labels[own]) else labels[own])
    return tuple(out)


@rule("repeat_interleave")
def repeat_interleave(context: Context, node: Call) -> Labels:
    """Every position several times; by a number and along a given axis."""
    labels, dim = context.labels(node.args[0]), argument(node, 2, "dim")
    if not isinstance(node.args[1], int) or dim is None:
        return context.freeze_inputs(node, "repeat_interleave without a number and an axis")
    dim = int(dim) % len(labels)
    return replaced(labels, dim, np.repeat(labels[dim], node.args[1]) if varies(labels[dim]) else labels[dim])


@rule("pixel_shuffle", "pixel_unshuffle", "channel_shuffle")
def pixels(context: Context, node: Call) -> Labels:
    """A block of channels becomes a square of pixels, the other way round, or channels change places between
    groups.
    """
    labels, number = context.labels(node.args[0]), int(node.args[1])
    dim, size = len(labels) - 3, context.shape(node.args[0])[-3]
    if "channel" in str(node.target):
        outer, inner = context.split(labels[1], (number, size // number), node)
        context.freeze(outer, "groups of channels that change places", node)
        return replaced(labels, 1, context.loci.merge([inner, outer], [size // number, number]))
    for spatial in labels[-2:]:
        context.freeze(spatial, "pixels that are channels", node)
    if "unshuffle" in str(node.target):
        label = np.repeat(labels[dim], number**2) if varies(labels[dim]) else labels[dim]
        return replaced(labels, dim, label)
    channel, square = context.split(labels[dim], (size // number**2, number**2), node)
    context.freeze(square, "a block of channels that becomes a square of pixels", node)
    return replaced(labels, dim, channel)


@rule("cat", "concat", "concatenate")
def concatenate(context: Context, node: Call) -> Labels:
    """Channels keep their order, each at its offset; along any other axis they are tied."""
    sources: Any = [s for s in node.args[0] if context.shape(s) != (0,)]
    dim = int(argument(node, 1, "dim", 0)) % len(context.shape(node))
    out: list[Label] = []
    for d in range(len(context.shape(node))):
        parts = [context.labels(s)[d] for s in sources]
        if d == dim:
            some = any(varies(part) for part in parts)
            widths = [context.shape(s)[d] for s in sources]
            out.append(
                np.concatenate([np.broadcast_to(part, (w,)) for part, w in zip(parts, widths, strict=True)])
                if some
                else parts[0]
            )
        else:
            met = parts[0]
            for part in parts[1:]:
                met = context.meet(met, part)
            out.append(met)
    return tuple(out)


@rule("stack")
def stack(context: Context, node: Call) -> Labels:
    """A new axis without channels; the others are tied."""
    sources: Any = node.args[0]
    dim = int(argument(node, 1, "dim", 0)) % len(context.shape(node))
    met = list(context.labels(sources[0]))
    for source in sources[1:]:
        met = [context.meet(a, b) for a, b in zip(met, context.labels(source), strict=True)]
    return (*met[:dim], context.plain("a stack", node), *met[dim:])


@rule("flip")
def flip(context: Context, node: Call) -> Labels:
    """Axes read backwards."""
    labels = context.labels(node.args[0])
    dims = {int(d) % len(labels) for d in argument(node, 1, "dims")}
    return tuple(label[::-1].copy() if d in dims else label for d, label in enumerate(labels))
