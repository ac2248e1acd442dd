"""Genomes as trial parameters: what a person reads in the dashboard."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    json_to_distribution,
)

from search.record.ledger_store import Packing

PARAMETERS = 64
"""Most parameters of a trial: the dashboard is of little use beyond, and every one costs 20 microseconds a
trial.
"""


class Parameters:
    """Genomes as trial parameters: the kept share of a group, the value of a choice; of a trial space its own
    parameters.

    Args:
        segments: of the ledger's space: name, size and choices of each.
        labels: what the alleles of a segment stand for.
        declared: the distributions of a trial space as JSON, empty for other spaces.
    """

    def __init__(
        self,
        segments: Sequence[tuple[str, int, int]],
        labels: Mapping[str, Sequence[Any]],
        declared: Mapping[str, str] | None = None,
    ) -> None:
        self._packing = Packing(segments)
        self._trials = Decoder(declared) if declared else None
        self._parts: list[tuple[str, slice, Sequence[Any] | None]] = []
        self.distributions: dict[str, BaseDistribution] = {}
        self.left_out = 0
        if self._trials is not None:
            self.distributions = self._trials.distributions
            return
        start = 0
        for name, size, choices in segments:
            whole = slice(start, start + size)
            loci = (
                [(name, whole)]
                if choices == 2 or size == 1
                else [(f"{name}[{i}]", slice(start + i, start + i + 1)) for i in range(size)]
            )
            for label, where in loci:
                if len(self._parts) == PARAMETERS:
                    self.left_out += 1
                    continue
                values = labels.get(name) if size == 1 else None
                self._parts.append((label, where, values))
                self.distributions[label] = _distribution(choices, values)
            start += size

    def __call__(self, packed: bytes) -> dict[str, Any]:
        genome = self._packing.unpack(packed)
        if self._trials is not None:
            return self._trials(genome)
        parameters: dict[str, Any] = {}
        for label, where, values in self._parts:
            if values is not None:
                parameters[label] = values[int(genome[where][0])]
            elif isinstance(self.distributions[label], IntDistribution):
                parameters[label] = int(genome[where][0])
            else:
                parameters[label] = round(float(genome[where].mean()), 6)
        return parameters


class Decoder:
    """Genomes of a trial space as parameters: eight bytes each, nan where a parameter is not active.

    Args:
        declared: parameter -> distribution as JSON, in the order of the genome.
    """

    def __init__(self, declared: Mapping[str, str]) -> None:
        self.distributions = {name: json_to_distribution(text) for name, text in declared.items()}

    def __call__(self, genome: np.ndarray) -> dict[str, Any]:
        """Return the active parameters of a genome ``(8 * parameters,)``."""
        values = np.ascontiguousarray(genome, dtype=np.uint8).view("<f8").tolist()
        pairs = zip(self.distributions.items(), values, strict=True)
        return {
            name: distribution.to_external_repr(value)
            for (name, distribution), value in pairs
            if not math.isnan(value)
        }


def _distribution(choices: int, values: Sequence[Any] | None) -> BaseDistribution:
    if values is None:
        return FloatDistribution(0.0, 1.0) if choices == 2 else IntDistribution(0, choices - 1)
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return IntDistribution(min(values), max(values))
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return FloatDistribution(float(min(values)), float(max(values)))
    return CategoricalDistribution(list(values))
