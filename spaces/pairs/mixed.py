"""Pairs of several architectures in one space: any encoder with any decoder, as long as they agree on the
latent.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spaces.allowed import imported
from spaces.base import Segment, Space
from spaces.channels.limits import resized
from spaces.channels.reference import Reference
from spaces.errors import InputError
from spaces.pairs.pair import HALVES, Latent
from spaces.pairs.space import Granularity, PairSpace

_ARCHITECTURE = tuple(f"architecture/{half}" for half in HALVES)
_LATENT = "latent"
_Key = tuple[str, int, str]
"""What a segment belongs to and its name there: a half, the number of its architecture, and the name; or
"latent", 0 and its number.
"""


class MixedPairs(Space):
    """Keep bits over every encoder, every decoder and the latent that all of them share, and which encoder
    and decoder it is. [O]

    Segments: ``architecture/encoder`` and ``architecture/decoder`` (one bit on in each), ``latent`` (where
    its units can be pruned in all combinations), then ``encoder<i>/...`` and ``decoder<j>/...``, named as in
    :class:`PairSpace`. Loci of architectures that a genome does not choose mean nothing; :meth:`active` tells
    which mean something.

    Args:
        encoders: modules, or ``class_path`` and ``init_args`` of some; with the latter an exported recipe can
            be loaded anywhere.
        decoders: the same.
        shape: of one sample's input, or of each where there are several arguments.
        symbols: inputs are integers below this (token ids); None: floats.
        pair: dotted path of the class that joins them, ``spaces.Pair`` or ``spaces.VariationalPair``.
        round_to: kept units of a group are a multiple of this.
        min_keep: fewest units of a group, and fewest entries of a weight.
        granularity: ``units``, ``weights``, or ``both``.
        seed: of the modules' weights where they are made here.

    Raises:
        InputError: no architecture, one that cannot be made, or two that do not fit each other, named; or as
            :class:`PairSpace`.
    """

    dotted_arguments = ("pair",)
    """Arguments that may be dotted names."""

    def __init__(
        self,
        encoders: Sequence[Any],
        decoders: Sequence[Any],
        shape: Sequence[int] | Sequence[Sequence[int]],
        symbols: int | None = None,
        pair: str = "spaces.Pair",
        round_to: int = 1,
        min_keep: int = 1,
        granularity: Granularity = "units",
        seed: int = 0,
    ) -> None:
        if not encoders or not decoders:
            raise InputError(
                f"space: {len(encoders)} encoders and {len(decoders)} decoders; expected at least one of each"
            )
        join = imported(pair, "space: pair", nn.Module)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoders = tuple(_module(spec, f"encoders[{i}]") for i, spec in enumerate(encoders))
            self.decoders = tuple(_module(spec, f"decoders[{j}]") for j, spec in enumerate(decoders))
            example = _example(shape, symbols)
            self._spaces = {
                (i, j): _inner(
                    join(e, d), example, (i, j), round_to=round_to, min_keep=min_keep, granularity=granularity
                )
                for i, e in enumerate(self.encoders)
                for j, d in enumerate(self.decoders)
            }
        self.granularity = granularity
        self.model = self.pair(0, 0)
        self._lay_out()
        self._number_units()

    # -- as every space --------------------------------------------------------------------------------------

    @property
    def program(self) -> str:
        return " ".join(space.program for space in self._spaces.values())

    @property
    def fingerprint(self) -> str:
        text = json.dumps(
            [
                [(s.name, s.size) for s in self.segments],
                [space.fingerprint for space in self._spaces.values()],
            ]
        )
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def base(self) -> np.ndarray:
        """The first architectures, whole."""
        return self.whole(0, 0)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        sizes = [segment.size for segment in self.segments]
        share = np.repeat(
            np.clip(rng.random((n, 1)) ** 0.5 + rng.normal(0, 0.1, (n, len(sizes))), 0, 1), sizes, axis=1
        )
        genomes = (rng.random((n, self.length)) < share).astype(np.uint8)
        for name, count in zip(_ARCHITECTURE, (len(self.encoders), len(self.decoders)), strict=True):
            genomes[:, self.slices[name]] = np.eye(count, dtype=np.uint8)[rng.integers(count, size=n)]
        return self.repair(genomes)

    def repair(self, genomes: np.ndarray) -> np.ndarray:
        """Return valid genomes: the first architecture that is on, or the first of all; groups and weights as
        :class:`PairSpace`.
        """
        genomes = (np.asarray(genomes) != 0).astype(np.uint8)
        for segment, part in zip(self.segments, self.slices.values(), strict=True):
            bits = genomes[:, part]
            if segment.name in _ARCHITECTURE:
                genomes[:, part] = np.eye(segment.size, dtype=np.uint8)[bits.argmax(axis=1)]
                continue
            kept = bits.sum(axis=1, dtype=np.int64)
            place, origin = self._origins[segment.name]
            target = self._spaces[place].valid_counts(origin, kept)
            rows = np.flatnonzero(kept != target)
            if len(rows):
                genomes[rows, part] = resized(bits[rows], target[rows])
        return genomes

    def build(self, genome: np.ndarray) -> nn.Module:
        self.check(genome[None])
        space, inner = self.inside(genome)
        return space.build(inner)

    def describe(self, genome: np.ndarray) -> dict[str, float | int | str]:
        """Return the numbers of the architectures, and the kept share of every group."""
        described: dict[str, float | int | str] = {}
        for name, part in self.slices.items():
            described[name] = (
                int(genome[part].argmax()) if name in _ARCHITECTURE else float(genome[part].mean())
            )
        return described

    # -- as PairSpace ----------------------------------------------------------------------------------------

    def pair(self, encoder: int = 0, decoder: int = 0) -> nn.Module:
        """Return the full pair of two architectures, which knows its ``architectures``; not a copy."""
        return self._spaces[encoder, decoder].model

    def whole(self, encoder: int = 0, decoder: int = 0) -> np.ndarray:
        """Return the genome ``(length,)`` of the full pair of two architectures."""
        genome = np.ones(self.length, dtype=np.uint8)
        for name, chosen in zip(_ARCHITECTURE, (encoder, decoder), strict=True):
            genome[self.slices[name]] = np.arange(self.slices[name].stop - self.slices[name].start) == chosen
        return genome

    def architectures(self, genome: np.ndarray) -> tuple[int, int]:
        """Return which encoder and which decoder a genome chooses."""
        encoder, decoder = (int(genome[self.slices[name]].argmax()) for name in _ARCHITECTURE)
        return encoder, decoder

    def active(self, genomes: np.ndarray) -> np.ndarray:
        """Return the loci that mean something for genomes ``(n, length)`` and may be pruned, bool of that
        shape: no architecture bits.
        """
        rows = []
        for genome in genomes:
            index = self._index[self.architectures(genome)]
            row = np.zeros(self.length, dtype=bool)
            row[index[index >= 0]] = True
            rows.append(row)
        return np.array(rows, dtype=bool).reshape(len(genomes), self.length)

    def masks(self, genome: np.ndarray) -> dict[str, Tensor]:
        """Return the masks of the full pair that the genome chooses, as :meth:`PairSpace.masks`."""
        self.check(genome[None])
        space, inner = self.inside(genome)
        return space.masks(inner)

    def parameters(self, genomes: np.ndarray) -> np.ndarray:
        """Return how many entries of the parameters are alive, float64 of shape ``(n,)``."""
        inside = [self.inside(genome) for genome in genomes]
        return np.array([space.parameters(inner[None])[0] for space, inner in inside], dtype=np.float64)

    def alive(self, genome: np.ndarray) -> dict[str, int]:
        """Return how many units of every group, and how many entries of every weight, are kept; of the
        architectures it chooses alone.
        """
        active = self.active(genome[None])[0]
        return {
            name: int(genome[part].sum(dtype=np.int64))
            for name, part in self.slices.items()
            if active[part].any()
        }

    def record(self, model: nn.Module, batches: Iterable[tuple[Latent, Any]]) -> np.ndarray:
        """Return the outputs of every unit, float32 ``(examples, units)``, NaN for those of other
        architectures.

        Args:
            model: of :meth:`pair`, or a copy of one.
        """
        place: tuple[int, int] = model.architectures  # type: ignore[assignment]
        recorded = self._spaces[place].record(model, batches)
        table = np.full((len(recorded), len(self.unit_layers)), np.nan, dtype=np.float32)
        columns, inner = self._columns[place]
        table[:, columns] = recorded[:, inner]
        return table

    def outgoing(self, pair: nn.Module) -> np.ndarray:
        """Return :meth:`PairSpace.outgoing` of a full pair, ``(length,)``; NaN for loci of other
        architectures.
        """
        place: tuple[int, int] = pair.architectures  # type: ignore[assignment]
        return self._outside(place, self._spaces[place].outgoing(pair))

    def slice_indices(self, genome: np.ndarray) -> dict[str, dict[int, np.ndarray]]:
        """Return the kept positions of every sliced axis of the pair that the genome chooses."""
        space, inner = self.inside(genome)
        return space.slice_indices(inner)

    def gather(self, genome: np.ndarray, full: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the ``state_dict`` of a compact model with the kept parts of full tensors."""
        space, inner = self.inside(genome)
        return space.gather(inner, full)

    def scatter(
        self, genome: np.ndarray, compact: Mapping[str, Tensor], base: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Return full tensors with those of a compact model at their kept places; the rest is that of `base`,
        or of the full pair.
        """
        space, inner = self.inside(genome)
        return space.scatter(inner, compact, base)

    def compact(self, pair: nn.Module, genome: np.ndarray) -> nn.Module:
        """Return a full pair of the genome's architectures without the units that the genome drops."""
        space, inner = self.inside(genome)
        return space.compact(pair, inner)

    def reference(self, genome: np.ndarray, state: Mapping[str, Tensor] | None = None) -> Reference:
        """Return the masked full model of the pair that the genome chooses."""
        space, inner = self.inside(genome)
        return space.reference(inner, state)

    def difference(
        self, genome: np.ndarray, inputs: tuple[Tensor, ...] | None = None, compact: nn.Module | None = None
    ) -> float:
        """Return how far a compact model is from the masked reference, as :meth:`PairSpace.difference`."""
        space, inner = self.inside(genome)
        return space.difference(inner, inputs, compact)

    # -- how it is laid out ----------------------------------------------------------------------------------

    def inside(self, genome: np.ndarray) -> tuple[PairSpace, np.ndarray]:
        """Return the space of the pair that a genome chooses, and its genome there; what has no locus here is
        kept.
        """
        place = self.architectures(genome)
        index = self._index[place]
        return self._spaces[place], np.where(index >= 0, genome[index], 1).astype(np.uint8)

    def outside(self, genome: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return what is known of the loci of :meth:`inside`'s plan, float64, by the loci of this space
        ``(length,)``; NaN for others.
        """
        return self._outside(self.architectures(genome), values)

    def _outside(self, place: tuple[int, int], values: np.ndarray) -> np.ndarray:
        index, found = self._index[place][: len(values)], np.full(self.length, np.nan)
        found[index[index >= 0]] = values[index >= 0]
        return found

    def _lay_out(self) -> None:
        """Find the segments that all pairs of an architecture have, and where the loci of each pair lie."""
        keys = {place: _keys(space, place) for place, space in self._spaces.items()}
        found = Counter((key, segment.size) for pairs in keys.values() for key, segment in pairs)
        meant = {"latent": len(self._spaces), HALVES[0]: len(self.decoders), HALVES[1]: len(self.encoders)}
        self._origins: dict[str, tuple[tuple[int, int], Segment]] = {}
        sizes: dict[_Key, int] = {}
        # a half meets every architecture of the other half: its segment is in all those pairs, at one size
        for place, pairs in keys.items():
            for key, segment in pairs:
                if found[key, segment.size] == meant[key[0]] and key not in sizes:
                    sizes[key] = segment.size
                    self._origins[_name(key)] = place, segment
        order = sorted(sizes, key=lambda key: (("latent", *HALVES).index(key[0]), key[1]))
        chosen = (
            Segment(name, n)
            for name, n in zip(_ARCHITECTURE, (len(self.encoders), len(self.decoders)), strict=True)
        )
        self.segments = (*chosen, *(Segment(_name(key), sizes[key]) for key in order))
        self._index: dict[tuple[int, int], np.ndarray] = {}
        self.encoder_loci, self.decoder_loci = (np.zeros(self.length, dtype=bool) for _ in HALVES)
        for place, pairs in keys.items():
            index = self._index[place] = np.full(self._spaces[place].length, -1, dtype=np.int64)
            for (key, segment), part in zip(pairs, self._spaces[place].slices.values(), strict=True):
                if sizes.get(key) == segment.size:
                    outer = self.slices[_name(key)]
                    index[part] = np.arange(outer.start, outer.stop)
                    self.encoder_loci[outer] |= key[0] != HALVES[1]
                    self.decoder_loci[outer] |= key[0] != HALVES[0]
        self.encoder_loci[self.slices[_ARCHITECTURE[0]]] = True
        self.decoder_loci[self.slices[_ARCHITECTURE[1]]] = True

    def _number_units(self) -> None:
        """Number the units of all halves, and those of the latent once more: whose they are depends on the
        encoder.
        """
        starts: dict[tuple[str, int, str], int] = {}
        layers: list[int] = []
        outer: dict[tuple[int, int], np.ndarray] = {}
        for place, space in self._spaces.items():
            numbers = []
            for layer, size in space.units.sizes.items():
                half = layer.partition(".")[0]
                key = half, place[HALVES.index(half)], layer
                if key not in starts:
                    starts[key] = len(layers)
                    layers += [len(starts) - 1] * size
                numbers.append(starts[key] + np.arange(size))
            outer[place] = np.concatenate(numbers)
        latent = np.flatnonzero(self.encoder_loci & self.decoder_loci)
        columns = len(layers) + np.arange(len(latent))
        groups = [part for name, part in self.slices.items() if name.startswith(_LATENT)]
        for number, part in enumerate(groups):
            layers += [len(starts) + number] * (part.stop - part.start)
        self.unit_layers = np.array(layers, dtype=np.int64)
        self.units_of = np.full(self.length, -1, dtype=np.int64)
        self._columns: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
        for place, space in self._spaces.items():
            index, spoken = self._index[place], np.full(self.length, -1, dtype=np.int64)
            known = (index >= 0) & (space.units_of >= 0)
            spoken[index[known]] = space.units_of[known]
            self.units_of[index[known]] = outer[place][space.units_of[known]]
            heard = spoken[latent] >= 0
            self._columns[place] = (
                np.concatenate([outer[place], columns[heard]]),
                np.concatenate([np.arange(len(outer[place])), spoken[latent][heard]]),
            )
        self.units_of[latent] = columns


def _keys(space: PairSpace, place: tuple[int, int]) -> list[tuple[_Key, Segment]]:
    """Return whose each segment is; those of the latent are numbered, since every encoder has its own names
    for them.
    """
    keys: list[tuple[_Key, Segment]] = []
    latents = 0
    for segment, part in zip(space.segments, space.slices.values(), strict=True):
        encoder, decoder = bool(space.encoder_loci[part].any()), bool(space.decoder_loci[part].any())
        if encoder and decoder:
            latents += 1
            keys.append((("latent", 0, str(latents)), segment))
        else:
            half = 0 if encoder else 1
            keys.append(((HALVES[half], place[half], segment.name), segment))
    return keys


def _name(key: _Key) -> str:
    half, number, name = key
    return (_LATENT if name == "1" else f"{_LATENT}#{name}") if half == _LATENT else f"{half}{number}/{name}"


def _inner(
    pair: nn.Module, example: tuple[Tensor, ...], place: tuple[int, int], **settings: Any
) -> PairSpace:
    try:
        space = PairSpace(pair, example, **settings)
    except InputError as error:
        raise InputError(f"encoders[{place[0]}] with decoders[{place[1]}]: {error}") from error
    pair.architectures = place  # type: ignore[assignment]
    return space


def _module(spec: Any, place: str) -> nn.Module:
    """Return a module, made of its ``class_path`` and ``init_args`` where it is none yet."""
    if isinstance(spec, nn.Module):
        return spec
    if (
        not isinstance(spec, Mapping)
        or not isinstance(spec.get("class_path"), str)
        or not spec.keys() <= {"class_path", "init_args"}
    ):
        raise InputError(
            f"space: {place} {spec!r} is not accepted; expected a module, or class_path and init_args"
        )
    try:
        made = imported(spec["class_path"], f"space: {place}", nn.Module)(**(spec.get("init_args") or {}))
    except TypeError as error:
        raise InputError(f"space: {place}: init_args do not fit {spec['class_path']}: {error}") from None
    if not isinstance(made, nn.Module):
        raise InputError(
            f"space: {place}: {spec['class_path']} made a {type(made).__name__}; expected a torch.nn.Module"
        )
    return made


def _example(shape: Sequence[Any], symbols: int | None) -> tuple[Tensor, ...]:
    """Return two samples of each input."""
    shapes = [shape] if all(isinstance(size, int) for size in shape) else shape
    if not all(isinstance(size, int) and size >= 1 for sizes in shapes for size in sizes):
        raise InputError(
            f"space: shape {list(shape)}; expected the sizes of one sample's input, without the batch, such "
            f"as [1, 8, 8]"
        )
    return tuple(
        torch.rand(2, *sizes) if symbols is None else torch.randint(symbols, (2, *sizes)) for sizes in shapes
    )


Pairs = PairSpace | MixedPairs
"""What coevolution works on."""
