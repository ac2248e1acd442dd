"""The space of what can be pruned of a pair: units, single weights, or both."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from spaces.base import Segment
from spaces.calling import call, example_of, mode
from spaces.channels.limits import resized
from spaces.channels.reference import Reference
from spaces.channels.space import TOLERANCE, ChannelSpace
from spaces.channels.trace import canonical_names
from spaces.errors import InputError
from spaces.outputs import distance
from spaces.pairs.pair import HALVES, Latent, check_pair
from spaces.pairs.units import Units, rows_of, weighted_layers

Granularity = Literal["units", "weights", "both"]
GRANULARITIES: tuple[Granularity, ...] = ("units", "weights", "both")
_WEIGHTS = "weights/"


class PairSpace(ChannelSpace):
    """Keep bits over a pair: of the coupled units of both halves, of the single weights and biases, or of
    both. [O]

    Unit groups are those of :class:`ChannelSpace` and come first; the latent units are one group of encoder
    outputs and decoder inputs. Behind them each weight and bias of every Linear and convolution is a segment
    ``weights/<tensor name>``, one bit an entry in C order. A built model is sliced by its unit bits; weights
    whose bit is 0 are zero in it, and stay so in any training, since their gradients are zeroed. ``plan``
    speaks of the unit bits alone, ``genome[:plan.length]``.

    Args:
        model: a :class:`Pair`, or any module whose forward is ``decoder(encoder(*inputs))`` of its children
            of these names.
        example: arguments of one forward call, a batch of at least 2.
        round_to: kept units of a group are a multiple of this.
        min_keep: fewest units of a group, and fewest entries of a weight; a bias may go as a whole.
        freeze: patterns of module names (``encoder.*``) whose units and weights always stay.
        granularity: ``units``, ``weights``, or ``both``.

    Attributes:
        encoder_loci: bool ``(length,)``: the loci that an encoder carries; the latent units are the decoder's
            too.
        decoder_loci: the same of a decoder.
        units_of: int64 ``(length,)``: the column of :meth:`record` that speaks about a locus: of a unit its
            own, of a weight the unit that it goes into; -1 where nothing is recorded.
        unit_layers: int64 ``(units,)``: the number of every recorded unit's layer.
        units: the recorded units, layer by layer.

    Raises:
        InputError: no pair, halves that do not fit each other, a model that cannot be traced, or nothing to
            prune.
    """

    def __init__(
        self,
        model: nn.Module,
        example: Sequence[Any] | Mapping[str, Any] | Tensor,
        round_to: int = 1,
        min_keep: int = 1,
        freeze: Sequence[str] = (),
        granularity: Granularity = "units",
    ) -> None:
        if granularity not in GRANULARITIES:
            raise InputError(f"space: granularity {granularity!r}; expected {', '.join(GRANULARITIES)}")
        self.granularity = granularity
        example = example_of(example)
        check_pair(model, example)
        # while units are tried there are no weights yet
        self._spared, self._shapes = tuple(freeze), dict[str, tuple[int, ...]]()
        try:
            super().__init__(
                model, example, round_to, min_keep, ("*",) if granularity == "weights" else freeze
            )
        except InputError:
            # a plan is there as soon as the model could be traced
            if granularity == "units" or "plan" not in vars(self):
                raise
        self._refuse_what_masks_cannot_do()
        self.units = Units(model, example)
        self.unit_layers = self.units.layers
        if granularity != "units":
            self._shapes = self._weight_shapes()
        self.segments = (
            *self.plan.segments,
            *(Segment(f"weights/{name}", math.prod(shape)) for name, shape in self._shapes.items()),
        )
        for cached in ("length", "slices", "choices"):
            self.__dict__.pop(cached, None)
        if not self.segments:
            raise InputError(
                f"space: {type(model).__name__} has nothing to prune; expected a Linear or a convolution "
                f"that is not frozen"
            )
        self._parameters = {name: parameter.numel() for name, parameter in model.named_parameters()}
        self.units_of = self._units_of()
        self.encoder_loci, self.decoder_loci = (self._loci_of(half) for half in HALVES)

    @property
    def encoders(self) -> tuple[nn.Module, ...]:
        """The architectures of encoders; here there is one."""
        return (self.model.encoder,)  # type: ignore[return-value]

    @property
    def decoders(self) -> tuple[nn.Module, ...]:
        """The architectures of decoders; here there is one."""
        return (self.model.decoder,)  # type: ignore[return-value]

    def pair(self, encoder: int = 0, decoder: int = 0) -> nn.Module:
        """Return the full pair of two architectures; not a copy."""
        return self.model

    def whole(self, encoder: int = 0, decoder: int = 0) -> np.ndarray:
        """Return the genome ``(length,)`` of the full pair of two architectures."""
        return self.base

    def architectures(self, genome: np.ndarray) -> tuple[int, int]:
        """Return which encoder and which decoder a genome chooses."""
        return 0, 0

    def inside(self, genome: np.ndarray) -> tuple[PairSpace, np.ndarray]:
        """Return the space of the pair that a genome chooses, and its genome there: this one."""
        return self, genome

    def outside(self, genome: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return what is known of the loci of :meth:`inside`'s plan, float64, by the loci of this space
        ``(length,)``; NaN for others.
        """
        found = np.full(self.length, np.nan)
        found[: len(values)] = values
        return found

    def repair(self, genomes: np.ndarray) -> np.ndarray:
        """Return valid genomes: unit groups as :class:`ChannelSpace` has them, and at least `min_keep`
        entries in every weight.
        """
        genomes = (np.asarray(genomes) != 0).astype(np.uint8)
        for segment, part in zip(self.segments, self.slices.values(), strict=True):
            bits = genomes[:, part]
            kept = bits.sum(axis=1, dtype=np.int64)
            target = self.valid_counts(segment, kept)
            rows = np.flatnonzero(kept != target)
            if len(rows):
                genomes[rows, part] = resized(bits[rows], target[rows])
        return genomes

    def valid_counts(self, segment: Segment, kept: np.ndarray) -> np.ndarray:
        """Return the valid numbers of kept loci of a segment that are nearest to `kept`, ``(n,)``."""
        if not segment.name.startswith(_WEIGHTS):
            return self._valid_count(kept, segment.size)
        is_weight = len(self._shapes[segment.name.removeprefix(_WEIGHTS)]) > 1
        return np.maximum(kept, min(self.min_keep, segment.size)) if is_weight else kept

    def build(self, genome: np.ndarray) -> nn.Module:
        model = super().build(genome)
        dead = self._dead_weights(genome)
        if dead:
            kept, parameters = self._slicer.kept(genome), dict(model.named_parameters())
            for name, mask in dead.items():
                axes = kept.get(name, {})
                index = np.ix_(*(axes.get(dim, np.arange(size)) for dim, size in enumerate(mask.shape)))
                _hold(parameters[name], torch.from_numpy(mask[index]))
        return model

    def reference(self, genome: np.ndarray, state: Mapping[str, Tensor] | None = None) -> Reference:
        tensors = dict(self.model.named_parameters())
        masked = {
            name: tensors[name].detach() * torch.from_numpy(mask)
            for name, mask in self._dead_weights(genome).items()
        }
        return super().reference(genome, masked | dict(state or {}))

    def compact(self, pair: nn.Module, genome: np.ndarray) -> nn.Module:
        """Return a full pair without the units that the genome drops: :meth:`build` with the weights of
        `pair`; single weights stay.
        """
        self.check(genome[None])
        return self._slicer.build(pair, genome)

    def masks(self, genome: np.ndarray) -> dict[str, Tensor]:
        """Return which entries of the full pair's parameters are alive: bool tensors by name, only of those
        with something dead.

        Unit bits kill rows of producers with their biases, entries of norms, and columns of consumers; weight
        bits kill entries. The full pair with its dead entries at 0 computes what the built model computes.
        """
        self.check(genome[None])
        tensors = dict(self.model.named_parameters())
        masks = self._dead_weights(genome)
        for axis in self.plan.axes:
            dead = (axis.loci >= 0) & (genome[axis.loci] == 0)
            if axis.tensor in tensors and dead.any():
                shape = tuple(tensors[axis.tensor].shape)
                mask = masks.setdefault(axis.tensor, np.ones(shape, dtype=bool))
                mask &= ~dead.reshape([-1 if dim == axis.dim else 1 for dim in range(len(shape))])
        return {name: torch.from_numpy(mask) for name, mask in masks.items()}

    def parameters(self, genomes: np.ndarray) -> np.ndarray:
        """Return how many entries of all parameters are alive, float64 of shape ``(n,)``: what counts where
        single weights are pruned.
        """
        whole = sum(self._parameters.values())
        return np.array(
            [whole - sum(int((~mask).sum()) for mask in self.masks(g).values()) for g in genomes],
            dtype=np.float64,
        )

    def alive(self, genome: np.ndarray) -> dict[str, int]:
        """Return how many units of every group, and how many entries of every weight, are kept."""
        return {name: int(genome[part].sum(dtype=np.int64)) for name, part in self.slices.items()}

    def outgoing(self, model: nn.Module) -> np.ndarray:
        """Return the norm of the weights of a full pair that read each unit, float64 ``(length,)``; of a
        single weight its own size.
        """
        squares = np.zeros(self.length)
        tensors = dict(model.named_parameters())
        for axis in self.plan.axes:
            if axis.role == "in" and axis.tensor in tensors:
                weight = tensors[axis.tensor].detach().double().movedim(axis.dim, 0).flatten(1)
                known = axis.loci >= 0
                np.add.at(squares, axis.loci[known], weight.square().sum(1).numpy()[known])
        for name in self._shapes:
            squares[self.slices[_WEIGHTS + name]] = tensors[name].detach().double().flatten().square().numpy()
        return np.sqrt(squares)

    def record(self, model: nn.Module, batches: Iterable[tuple[Latent, Any]]) -> np.ndarray:
        """Return the outputs of every Linear and convolutional unit of a full pair, float32
        ``(examples, units)``; see :class:`Units`.
        """
        return self.units.record(model, batches)

    def _refuse_what_masks_cannot_do(self) -> None:
        """Freeze groups whose masked full pair is not the compact one: a norm over units also sees those that
        are zero.
        """
        refused = {}
        for name, part in zip(
            [segment.name for segment in self.plan.segments], self.slices.values(), strict=False
        ):
            genome = np.ones(self.length, dtype=np.uint8)
            genome[part][: max(1, (part.stop - part.start) // 2)] = 0
            masked, built = copy.deepcopy(self.model), self.build(genome)
            with torch.no_grad():
                for tensor, mask in self.masks(genome).items():
                    masked.get_parameter(tensor).mul_(mask.to(masked.get_parameter(tensor).device))
            with mode(masked, False), mode(built, False), torch.no_grad():
                apart = distance(call(masked, self.example), call(built, self.example))
            if not apart <= TOLERANCE:
                refused[name] = f"masked in the full pair it differs from the compact one by {apart:.2g}"
        if refused:
            self._refused = self._refused | refused
            self._accept(self._analysis.plan(self._refused))

    def _dead_weights(self, genome: np.ndarray) -> dict[str, np.ndarray]:
        """Return keep masks of the weights of which some bit is 0, by tensor name."""
        masks = {}
        for name, shape in self._shapes.items():
            bits = genome[self.slices[_WEIGHTS + name]]
            if not bits.all():
                masks[name] = bits.reshape(shape).astype(bool)
        return masks

    def _weight_shapes(self) -> dict[str, tuple[int, ...]]:
        layers = weighted_layers(self.model)
        unknown = [
            pattern for pattern in self._spared if not any(fnmatchcase(name, pattern) for name, _ in layers)
        ]
        if unknown:
            raise InputError(
                f"space.freeze: {unknown[0]!r} matches no layer; there are "
                f"{', '.join(name for name, _ in layers)}"
            )
        first = canonical_names(self.model)
        return {
            f"{name}.{kind}": tuple(parameter.shape)
            for name, layer in layers
            if not any(fnmatchcase(name, pattern) for pattern in self._spared)
            for kind, parameter in layer.named_parameters(recurse=False)
            if first.get(f"{name}.{kind}") == f"{name}.{kind}"
        }

    def _units_of(self) -> np.ndarray:
        units = np.full(self.length, -1, dtype=np.int64)
        layers = dict(weighted_layers(self.model))
        order = list(self.units.starts)
        producers = [
            a for a in self.plan.axes if a.role == "out" and a.tensor.rpartition(".")[0] in self.units.starts
        ]
        # the first to run is written last
        for axis in sorted(producers, key=lambda a: order.index(a.tensor.rpartition(".")[0]), reverse=True):
            known = np.flatnonzero(axis.loci >= 0)[::-1]  # and of a locus at several places the first one
            units[axis.loci[known]] = self.units.starts[axis.tensor.rpartition(".")[0]] + known
        for name in self._shapes:
            module, _, kind = name.rpartition(".")
            if module in self.units.starts:
                rows = rows_of(layers[module], getattr(layers[module], kind))
                units[self.slices[_WEIGHTS + name]] = self.units.starts[module] + rows
        return units

    def _loci_of(self, half: str) -> np.ndarray:
        """Return which loci cut parameters of a half."""
        own = np.zeros(self.length, dtype=bool)
        for axis in self.plan.axes:
            if axis.tensor.startswith(f"{half}."):
                own[axis.loci[axis.loci >= 0]] = True
        for name in self._shapes:
            own[self.slices[_WEIGHTS + name]] = name.startswith(f"{half}.")
        return own


def _hold(parameter: nn.Parameter, mask: Tensor) -> None:
    """Zero the entries of a parameter that are not kept, for good: without gradients no optimiser
    moves them.
    """
    with torch.no_grad():
        parameter.mul_(mask.to(parameter.device))
    if parameter.requires_grad:
        parameter.register_hook(lambda gradient: gradient * mask.to(gradient.device))
