"""Several spaces in one genome."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from spaces.base import Segment, Space
from spaces.errors import InputError
from spaces.names import public_name


@dataclass(frozen=True, eq=False)
class Part:
    """One space's share of a joint genome, as ``assemble`` gets it: built only if it is asked to build."""

    space: Space
    genome: np.ndarray

    def build(self) -> nn.Module:
        """Return what the part's space builds on its own."""
        return self.space.build(self.genome)

    def describe(self) -> dict[str, float | int | str]:
        """Return the part's values by name."""
        return self.space.describe(self.genome)


Assemble = Callable[..., nn.Module]
"""Gets every :class:`Part` as a keyword argument under its name and returns the model."""


class JointSpace(Space):
    """Architecture, mask, hyper-parameters, ... varied together.

    The genome is that of the parts one after the other, a segment is called ``part/segment``. Sampling,
    repair and description are the parts' own; where combinations are invalid although the parts are not,
    override :meth:`repair`.

    What ``build`` means is for `assemble` to say, because parts relate in different ways:

    * without it the first part is the model, and the others are settings that an evaluator reads, as
      ``space.describe(candidate.genome)["tuning/learning_rate"]``: architecture or mask x hyper-parameters;
    * parts that are models are built and joined:
      ``lambda encoder, decoder: Pair(encoder.build(), decoder.build())``;
    * a mask over the largest architecture is sliced first and what the architecture leaves out is taken away
      then: ``def assemble(mask, blocks): return without(mask.build(), blocks.describe()["depth"])``.

    Args:
        spaces: the parts by name, in order.
        assemble: called as ``assemble(**parts)``; a module-level function where the space is to be pickled by
            the standard library (Ray takes lambdas, too). Its name counts for the fingerprint.

    Raises:
        InputError: without a part, or with a name that is not an identifier.
    """

    def __init__(self, spaces: Mapping[str, Space], assemble: Assemble | None = None) -> None:
        if not spaces:
            raise InputError("JointSpace: no spaces; give at least one by name")
        for name in spaces:
            if not name.isidentifier():
                raise InputError(
                    f"JointSpace: part name {name!r} is not accepted; use letters, digits and _, beginning "
                    f"with a letter"
                )
        self.spaces, self.assemble = dict(spaces), assemble
        self.segments = tuple(
            Segment(f"{name}/{s.name}", s.size, s.choices)
            for name, space in spaces.items()
            for s in space.segments
        )
        edges = np.cumsum([0, *(space.length for space in spaces.values())]).tolist()
        self.parts = {
            name: slice(start, end) for name, start, end in zip(spaces, edges, edges[1:], strict=False)
        }
        """Where each part lies in the genome."""

    @property
    def fingerprint(self) -> str:
        return self._digest({name: space.fingerprint for name, space in self.spaces.items()})

    @property
    def program(self) -> str:
        return " ".join(space.program for space in self.spaces.values()).strip()

    @property
    def compatibility(self) -> str:
        """Of the parts' own; a part without one has to be as it was. Empty where a subclass has a
        fingerprint of its own.
        """
        if type(self).fingerprint is not JointSpace.fingerprint:
            return ""
        return self._digest(
            {name: space.compatibility or space.fingerprint for name, space in self.spaces.items()}
        )

    def _digest(self, parts: Mapping[str, str]) -> str:
        assemble = self.assemble and public_name(self.assemble)
        return hashlib.blake2b(repr((list(parts.items()), assemble)).encode(), digest_size=16).hexdigest()

    @property
    def alleles(self) -> dict[str, tuple[float | int | str, ...]]:
        return {
            f"{name}/{segment}": values
            for name, space in self.spaces.items()
            for segment, values in space.alleles.items()
        }

    @property
    def base(self) -> np.ndarray | None:
        """The parts' bases joined; None where one of them has none."""
        bases = [space.base for space in self.spaces.values()]
        known = [base for base in bases if base is not None]
        return np.concatenate(known) if len(known) == len(bases) else None

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self.repair(np.concatenate([space.sample(n, rng) for space in self.spaces.values()], axis=1))

    def repair(self, genomes: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [space.repair(genomes[:, self.parts[name]]) for name, space in self.spaces.items()], axis=1
        )

    def build(self, genome: np.ndarray) -> nn.Module:
        parts = self.split(genome)
        return next(iter(parts.values())).build() if self.assemble is None else self.assemble(**parts)

    def describe(self, genome: np.ndarray) -> dict[str, float | int | str]:
        return {
            f"{name}/{key}": value
            for name, part in self.split(genome).items()
            for key, value in part.describe().items()
        }

    def genes(self, genome: np.ndarray) -> dict[str, Any]:
        return {
            name: value
            for part in self.split(genome).values()
            for name, value in part.space.genes(part.genome).items()
        }

    def gene_values(self) -> dict[str, tuple[Any, ...]]:
        return {name: values for part in self.spaces.values() for name, values in part.gene_values().items()}

    def split(self, genome: np.ndarray) -> dict[str, Part]:
        """Return every part's share of a genome ``(length,)``."""
        self.check(genome[None])
        return {name: Part(space, genome[self.parts[name]]) for name, space in self.spaces.items()}

    def join(self, **genomes: np.ndarray) -> np.ndarray:
        """Return the genome of all the parts' genomes, each given by the part's name.

        Raises:
            InputError: when a part is missing or unknown.
        """
        if genomes.keys() != self.spaces.keys():
            raise InputError(
                f"JointSpace.join: got {', '.join(genomes) or 'nothing'}; the parts are "
                f"{', '.join(self.spaces)}"
            )
        genome = np.concatenate([genomes[name] for name in self.spaces])
        self.check(genome[None])
        return genome
