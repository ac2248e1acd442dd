"""What a genome of another run is in a space of today."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from search.record.ledger import Ledger
from search.study.parameters import Decoder
from spaces.base import Parametric, Space
from spaces.errors import InputError


class Translation(ABC):
    """Carries genomes of a ledger over to a space."""

    @abstractmethod
    def same(self, genome: np.ndarray) -> np.ndarray | None:
        """Return the genome ``(length,)`` that makes the same choices here; None where one of them is not to
        be had.
        """

    @abstractmethod
    def near(self, genome: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
        """Return the genome ``(length,)`` with those choices that the space knows, too; None where one of
        these has a value that is not to be had.
        """


def translation(ledger: Ledger, space: Space) -> Translation:
    """Return what carries genomes of a ledger over to a space: by the values of parameters where genomes hold
    these, else by segments and what their alleles stand for.
    """
    declared = declared_parameters(ledger)
    if isinstance(space, Parametric) and declared:
        return _ByParameters(declared, space)
    return _BySegments(ledger, space)


def declared_parameters(ledger: Ledger) -> dict[str, str]:
    """Return the distributions of a ledger's trials as JSON, by name; empty where it has no trials."""
    return (ledger.note("about") or {}).get("parameters") or {}


class _ByParameters(Translation):
    def __init__(self, declared: dict[str, str], space: Parametric) -> None:
        self._decode, self._space = Decoder(declared), space

    def same(self, genome: np.ndarray) -> np.ndarray | None:
        try:
            return self._space.encode(self._decode(genome))
        except InputError:
            return None

    def near(self, genome: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
        known: dict[str, Any] = {
            name: value for name, value in self._decode(genome).items() if name in self._space.distributions
        }
        try:
            return self._space.completed(known, rng)
        except InputError:
            return None


class _BySegments(Translation):
    def __init__(self, ledger: Ledger, space: Space) -> None:
        self._ledger, self._space = ledger, space
        self._table = _alleles(ledger, space) if _same_segments(ledger, space) else None

    def same(self, genome: np.ndarray) -> np.ndarray | None:
        if self._table is None:
            return None
        found = self._table[np.arange(self._space.length), genome]
        return found.astype(np.uint8) if (found >= 0).all() else None

    def near(self, genome: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
        return carried(self._ledger, genome, self._space, rng)


def carried(ledger: Ledger, genome: np.ndarray, space: Space, rng: np.random.Generator) -> np.ndarray | None:
    """Return what a genome of a ledger is in another space, ``(length,)``, by its segments; None where a
    value that it chose is not to be had there.
    """
    result = (space.sample(1, rng)[0] if space.base is None else space.base).copy()
    start = 0
    for segment in ledger.segments:
        alleles, start = genome[start : start + segment.size], start + segment.size
        there = next((s for s in space.segments if s.name == segment.name and s.size == segment.size), None)
        if there is None:
            continue
        before, now = ledger.alleles.get(segment.name), space.alleles.get(segment.name)
        if before is not None and now is not None:
            if any(before[allele] not in now for allele in alleles):
                return None
            alleles = np.array([now.index(before[allele]) for allele in alleles], dtype=np.uint8)
        elif there.choices != segment.choices:
            continue
        result[space.slices[segment.name]] = alleles
    return result


def _same_segments(ledger: Ledger, space: Space) -> bool:
    return [(s.name, s.size) for s in ledger.segments] == [(s.name, s.size) for s in space.segments]


def _alleles(ledger: Ledger, space: Space) -> np.ndarray:
    """Return for every locus and allele of the other run the allele here, ``(length, 256)``; -1 where its
    value is not to be had.
    """
    same = space.is_meant(ledger.fingerprint)
    table = np.full((space.length, 256), -1, dtype=np.int64)
    for segment in ledger.segments:
        before, now = ledger.alleles.get(segment.name), space.alleles.get(segment.name)
        if before is None or now is None or same:
            table[space.slices[segment.name], : segment.choices] = np.arange(segment.choices)
            continue
        places = {
            repr(value): place for place, value in enumerate(now)
        }  # 1, 1.0 and true are equal, but may not build the same
        table[space.slices[segment.name], : segment.choices] = [
            places.get(repr(value), -1) for value in before
        ]
    return table
