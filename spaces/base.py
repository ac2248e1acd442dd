"""What may vary: a space encodes every candidate as one flat vector of small integers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from spaces.channels.plan import SlicePlan

from spaces.names import with_former
from spaces.segments import Segment


class Space(ABC):
    """Everything that a search may build.

    A genome is ``np.ndarray[uint8]`` of shape ``(length,)``; populations are ``(n, length)``, batch first,
    everywhere.

    What some spaces can do beyond this is said by :class:`Sliced`, :class:`Trained` and :class:`Masked`.

    Attributes:
        segments: of the genome, in order.
        spaces: of a joint space its parts by name; empty for all others.
        parts: where each of them lies in the genome.
        assemble: what makes a model of them; None: the first part is the model.
    """

    segments: tuple[Segment, ...]
    spaces: Mapping[str, Space] = MappingProxyType({})
    parts: Mapping[str, slice] = MappingProxyType({})
    assemble: Callable[..., nn.Module] | None = None

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Same fingerprint, same meaning of every genome: guards resume."""

    @property
    def compatibility(self) -> str:
        """Same compatibility and same values by name, same model: what the fingerprint says beside the lists
        of values. Empty: that is not known.

        Results are kept where a choice was extended and the compatibility is what it was; with the same
        fingerprint they always are.
        """
        return ""

    @property
    def program(self) -> str:
        """Hash of what the base model computes, where the space traced it: an edited ``forward`` has another
        one. Empty where nothing was traced.
        """
        return ""

    def is_meant(self, fingerprint: str) -> bool:
        """Whether a fingerprint that was written down, perhaps in format 1, is this space's."""
        return fingerprint in with_former(lambda: self.fingerprint)

    def is_compatible(self, compatibility: str) -> bool:
        """Whether a compatibility that was written down, perhaps in format 1, is this space's."""
        return compatibility in with_former(lambda: self.compatibility)

    @abstractmethod
    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Return ``(n, length)`` valid genomes, drawn at random."""

    @abstractmethod
    def repair(self, genomes: np.ndarray) -> np.ndarray:
        """Return the nearest valid genomes, ``(n, length)``; idempotent, and valid genomes stay
        as they are.
        """

    @abstractmethod
    def build(self, genome: np.ndarray) -> nn.Module:
        """Return the model that is scored, tuned and exported. It shares no storage with any other model."""

    @abstractmethod
    def describe(self, genome: np.ndarray) -> dict[str, float | int | str]:
        """Return what a person reads, and what Optuna gets as parameters; the same keys for every genome."""

    @property
    def base(self) -> np.ndarray | None:
        """The genome of the model that relative limits refer to (the unpruned one), or None where there is
        none.
        """
        return None

    @property
    def alleles(self) -> dict[str, tuple[float | int | str, ...]]:
        """What the alleles of a segment stand for, by its name, ``choices`` values each; keep bits and plain
        numbers are left out.

        It is what carries genomes over to a space whose choices were extended: by value, not by position.
        """
        return {}

    @cached_property
    def units_of(self) -> np.ndarray:
        """The column of recorded outputs that speaks about each locus, int64 ``(length,)``, -1 for none; by
        default its own.
        """
        return np.arange(self.length)

    @cached_property
    def unit_layers(self) -> np.ndarray:
        """The number of every recorded unit's layer, int64 ``(units,)``; by default that of its segment."""
        return np.repeat(np.arange(len(self.segments)), [segment.size for segment in self.segments])

    def active(self, genomes: np.ndarray) -> np.ndarray:
        """Return the loci that mean something for genomes ``(n, length)`` and may be pruned, bool of that
        shape; all of them by default.
        """
        return np.ones(genomes.shape, dtype=bool)

    def genes(self, genome: np.ndarray) -> dict[str, Any]:
        """Return the settings of an evaluation that a genome ``(length,)`` holds, by name; none by
        default.
        """
        return {}

    def gene_values(self) -> dict[str, tuple[Any, ...]]:
        """Return the names that :meth:`genes` may give, each with the values it may have where these are
        few, else without any.
        """
        return {}

    def report(self) -> dict[str, Any]:
        """Return what a person should know of this space before and after the search, as plain data:
        ``groups``, ``frozen``, ``notes``; nothing by default.
        """
        return {}

    def finish(
        self, genome: np.ndarray, arrays: Callable[[], Mapping[str, np.ndarray]]
    ) -> tuple[Space, np.ndarray]:
        """Return the space and the genome of the model that a candidate ended with: those it was built with,
        unless evaluations put something else in its place.

        Args:
            genome: of the candidate, ``(length,)``.
            arrays: gives the arrays of its evaluation; called where they are needed.
        """
        return self, genome

    def made_of(
        self, genome: np.ndarray, model: Mapping[str, Any] | None, space: Mapping[str, Any] | None
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Return what a recipe makes a built model of: ``class_path`` and ``init_args`` of a model that is
        there before it is cut, and those of a space that builds anew; None where it needs none, or where it
        is not known. By default it is the space.

        Args:
            genome: ``(length,)``.
            model: what is known of the base model; None: nothing.
            space: what is known of this space; None: nothing.
        """
        return None, None if space is None else dict(space)

    def difference(self, genome: np.ndarray, *, compact: nn.Module | None = None) -> float | None:
        """Return how far a built model is from the same choice within the full one, relative to the largest
        output (at least 1); None (the default) where there is no such model.

        Args:
            compact: the built model, where its weights were changed since; None: as built.
        """
        return None

    def canonical(self, genomes: np.ndarray) -> np.ndarray:
        """Return one genome for all that build the same model, ``(n, length)``: how duplicates are told; a
        copy of `genomes` by default.
        """
        return genomes.copy()

    def settle(self, steps: Callable[[], Mapping[str, int]]) -> Mapping[str, int] | None:
        """Take the numbers of which the runtime likes widths to be multiples, where the user left that to it.

        Args:
            steps: gives them by the names of segments; called where they are needed.

        Returns:
            those that were taken; None (the default) where nothing was left open.
        """
        return None

    @cached_property
    def length(self) -> int:
        return sum(segment.size for segment in self.segments)

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where each segment lies in the genome, by its name and in order."""
        slices, start = {}, 0
        for segment in self.segments:
            slices[segment.name] = slice(start, start + segment.size)
            start += segment.size
        return slices

    @cached_property
    def choices(self) -> np.ndarray:
        """Number of alleles of every locus, int64 of shape ``(length,)``."""
        return np.repeat([s.choices for s in self.segments], [s.size for s in self.segments]).astype(np.int64)

    def pack(self, genome: np.ndarray) -> bytes:
        """Return the genome as bytes: one bit a locus where all are keep bits, else one byte."""
        genome = np.ascontiguousarray(genome, dtype=np.uint8)
        return np.packbits(genome).tobytes() if (self.choices == 2).all() else genome.tobytes()

    def unpack(self, packed: bytes) -> np.ndarray:
        """Return the genome ``(length,)`` that :meth:`pack` made these bytes of."""
        raw = np.frombuffer(packed, dtype=np.uint8)
        return np.unpackbits(raw, count=self.length) if (self.choices == 2).all() else raw.copy()

    def check(self, genomes: np.ndarray) -> None:
        """Raise ValueError unless this is a population of this space: uint8, ``(n, length)``, every allele
        within its choices.

        It says nothing about validity, which is what :meth:`repair` brings about.
        """
        if not isinstance(genomes, np.ndarray) or genomes.dtype != np.uint8:
            raise ValueError(
                f"genomes must be a uint8 array, got {getattr(genomes, 'dtype', type(genomes).__name__)}"
            )
        if genomes.ndim != 2 or genomes.shape[1] != self.length:
            raise ValueError(f"genomes must have the shape (n, {self.length}), got {genomes.shape}")
        wrong = np.argwhere(genomes >= self.choices)
        if len(wrong):
            row, locus = wrong[0]
            raise ValueError(
                f"genome {row} holds allele {genomes[row, locus]} at locus {locus}, which has "
                f"{self.choices[locus]} choices"
            )


@runtime_checkable
class Sliced(Protocol):
    """A space whose models are slices of one full model, as a slice plan says.

    Attributes:
        model: the full one.
        plan: what every locus cuts.
    """

    model: nn.Module
    plan: SlicePlan

    def slice_indices(self, genome: np.ndarray) -> dict[str, dict[int, np.ndarray]]:
        """Return the kept positions of every sliced axis: tensor name -> axis -> indices."""

    def attributes(self, genome: np.ndarray) -> dict[str, dict[str, int]]:
        """Return the module attributes that follow: module name -> attribute -> size."""

    def gather(self, genome: np.ndarray, full: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the ``state_dict`` of a compact model with the kept parts of full tensors."""

    def scatter(
        self, genome: np.ndarray, compact: Mapping[str, Tensor], base: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Return full tensors with those of a compact model at their kept places; the rest is that of `base`,
        or of the full model.
        """


@runtime_checkable
class Pretrained(Protocol):
    """A space over a model that may be one of Hugging Face's transformers, or a wrapper around one.

    Attributes:
        pretrained: whether it is.
    """

    @property
    def pretrained(self) -> bool: ...

    def plain(self, genome: np.ndarray, compact: nn.Module | None = None) -> nn.Module:
        """Return a model that its config alone describes and that computes what a compact one computes;
        NotPlain where there is none.
        """


@runtime_checkable
class Trained(Protocol):
    """A space that builds what each evaluation trains to the end: the model is kept as that left it, and not
    fine-tuned.

    Attributes:
        distributions: of Optuna, of the parameters of a trial, by name; empty where a genome holds none.
        trained: whether what is built was trained before, so that there is something to compare with.
    """

    @property
    def distributions(self) -> Mapping[str, BaseDistribution]: ...

    @property
    def trained(self) -> bool: ...


@runtime_checkable
class Parametric(Protocol):
    """A space whose genomes hold the parameters of trials.

    Attributes:
        distributions: of Optuna, by the names of the parameters.
    """

    @property
    def distributions(self) -> Mapping[str, BaseDistribution]: ...

    def encode(self, params: Mapping[str, Any]) -> np.ndarray:
        """Return the genome ``(length,)`` of exactly the parameters that are asked for; InputError where they
        are others.
        """

    def completed(self, params: Mapping[str, Any], rng: np.random.Generator) -> np.ndarray:
        """Return the same where some are missing, which are drawn at random."""

    def is_meant_with(self, fingerprint: str, distributions: Mapping[str, str]) -> bool:
        """Whether a fingerprint would be this space's if its parameters had these distributions (JSON)."""


@runtime_checkable
class Masked(Protocol):
    """A space of pairs, an encoder and a decoder, whose units or weights are masked in the full pair.

    Attributes:
        model: the first full pair.
    """

    model: nn.Module

    def pair(self, encoder: int = 0, decoder: int = 0) -> nn.Module:
        """Return the full pair of two architectures; not a copy."""

    def whole(self, encoder: int = 0, decoder: int = 0) -> np.ndarray:
        """Return the genome ``(length,)`` of the full pair of two architectures."""

    def architectures(self, genome: np.ndarray) -> tuple[int, int]:
        """Return which encoder and which decoder a genome chooses."""

    def masks(self, genome: np.ndarray) -> dict[str, Tensor]:
        """Return which entries of the full pair's parameters are alive, bool by name."""

    def parameters(self, genomes: np.ndarray) -> np.ndarray:
        """Return how many entries of all parameters are alive, float64 of shape ``(n,)``."""

    def gather(self, genome: np.ndarray, full: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the ``state_dict`` of a compact pair with the kept parts of full tensors."""
