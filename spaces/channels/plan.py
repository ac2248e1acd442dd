"""The slice plan: plain, picklable data that says what a genome does to a model.

A locus is one channel that stands or falls as a whole, wherever it appears: in the producer's filters, in the
normalisation behind it, in every consumer. Each sliced axis of a parameter or buffer carries the locus of
each of its positions, so that keeping is one look-up (``keep[loci]``), whatever concats, flattens and
residual sums lie between.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from spaces.segments import Segment

Role = Literal["out", "in", "own"]


@dataclass(frozen=True, eq=False)
class AxisSlice:
    """One axis of a parameter or buffer that a genome shortens.

    An axis may come more than once: a position stays where all of its loci do (features of an attention: the
    head, and the place in it).

    Attributes:
        tensor: qualified name as in ``state_dict`` (tied tensors appear once, under their first name).
        dim: the axis.
        loci: int64 of shape ``(size of the axis,)``: the locus of every position, -1 where it is always kept.
        role: ``out`` for the output channels of a convolution or linear weight, ``in`` for its inputs,
            ``own`` for biases and normalisation vectors.
    """

    tensor: str
    dim: int
    loci: np.ndarray
    role: Role


@dataclass(frozen=True, eq=False)
class Attribute:
    """A module attribute that holds a size: it becomes the number of kept positions (``out_channels``,
    ``num_features``, ``groups``).

    Of a tuple it is the first entry (``normalized_shape``). `loci` is ``(size,)``, or ``(levels, size)``
    where positions have several loci.
    """

    module: str
    name: str
    loci: np.ndarray


@dataclass(frozen=True, eq=False)
class Tap:
    """A module whose output carries channels of a segment: where activations and gradients are looked at.

    Heads of an attention are looked at where they end: at the input of the layer behind them, as Michel et
    al. 2019 do [P].

    Attributes:
        module: qualified name.
        dim: the channel axis of its output.
        loci: locus of every output channel, -1 where it is always kept; ``(size,)``, or ``(levels, size)``
            where a position stays if all of several loci do.
        at_input: the module's first input is looked at, not its output.
        scored: `loci` with -1 for those that are looked at elsewhere; None: none is.
    """

    module: str
    dim: int
    loci: np.ndarray
    at_input: bool = False
    scored: np.ndarray | None = None

    def levels(self, genome: np.ndarray | None = None) -> np.ndarray:
        """Return the scored loci of every position that a genome keeps (None: of all), int64
        ``(levels, kept)``.
        """
        loci = np.atleast_2d(self.loci)
        scored = np.atleast_2d(self.loci if self.scored is None else self.scored)
        return scored if genome is None else scored[:, np.append(genome != 0, True)[loci].all(axis=0)]


@dataclass(frozen=True, eq=False)
class Operation:
    """An operation that costs multiply-accumulates: `macs` for the full model at batch 1, in proportion to
    the kept share of `axes`.

    Attributes:
        name: of the parameter it applies, or of the graph node.
        macs: of the full model, batch 1.
        axes: loci of each axis that scales it (MACs are proportional to the product of the kept shares):
            ``(size,)``, or ``(levels, size)`` where positions have several loci.
        gate: locus of the block that it belongs to, -1 where that always stays.
    """

    name: str
    macs: int
    axes: tuple[np.ndarray, ...]
    gate: int = -1


@dataclass(frozen=True)
class Group:
    """Channels of several layers that are kept or removed together, for people.

    Attributes:
        name: of the segment.
        size: number of channels.
        members: the parameter axes it slices, as ``layer.weight[0]``.
    """

    name: str
    size: int
    members: tuple[str, ...]


@dataclass(frozen=True)
class Frozen:
    """An axis that cannot be pruned: which one, why, and the line of the model's source where
    that was found.
    """

    axis: str
    reason: str
    where: str = ""


@dataclass(frozen=True, eq=False)
class TensorSize:
    """A parameter or buffer: shape, bytes per element, and the loci of its sliced axes (None for whole ones).

    The loci of an axis are ``(size,)``, or ``(levels, size)`` where a position stays if all of several loci
    do. `gate` is the locus of the block that the tensor belongs to, -1 where that always stays.
    """

    name: str
    shape: tuple[int, ...]
    itemsize: int
    parameter: bool
    axes: tuple[np.ndarray | None, ...]
    gate: int = -1


@dataclass(frozen=True, eq=False)
class SlicePlan:
    """All that slicing, costs and criteria need to know of a traced model.

    Attributes:
        steps: names of segments of which a multiple of a number has to be kept, and that number.
    """

    segments: tuple[Segment, ...]
    axes: tuple[AxisSlice, ...]
    attributes: tuple[Attribute, ...]
    taps: tuple[Tap, ...]
    operations: tuple[Operation, ...]
    tensors: tuple[TensorSize, ...]
    groups: tuple[Group, ...]
    frozen: tuple[Frozen, ...]
    steps: tuple[tuple[str, int], ...] = ()

    @cached_property
    def length(self) -> int:
        """Number of loci."""
        return sum(segment.size for segment in self.segments)

    @cached_property
    def starts(self) -> dict[str, slice]:
        """Where each segment lies in the genome."""
        edges = np.cumsum([0, *(segment.size for segment in self.segments)])
        return {
            s.name: slice(int(a), int(b)) for s, a, b in zip(self.segments, edges, edges[1:], strict=False)
        }
