"""Genomes as trial parameters: what a person reads in the dashboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search.study.rows import Rows

PARAMETERS = 64
"""Most parameters of a trial: the dashboard is of little use beyond, and every one costs 20 microseconds a trial."""


class Parameters:
    """Genomes as trial parameters: the kept share of a group, the value of a choice."""

    def __init__(self, rows: Rows, labels: Mapping[str, Sequence[Any]]) -> None:
        self._rows = rows
        self._parts: list[tuple[str, slice, Sequence[Any] | None]] = []
        self.distributions: dict[str, BaseDistribution] = {}
        self.left_out = 0
        start = 0
        for name, size, choices in rows.segments:
            whole = slice(start, start + size)
            loci = (
                [(name, whole)] if choices == 2 or size == 1 else [(f"{name}[{i}]", slice(start + i, start + i + 1)) for i in range(size)]
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
        genome = self._rows.genome(packed)
        parameters: dict[str, Any] = {}
        for label, where, values in self._parts:
            if values is not None:
                parameters[label] = values[int(genome[where][0])]
            elif isinstance(self.distributions[label], IntDistribution):
                parameters[label] = int(genome[where][0])
            else:
                parameters[label] = round(float(genome[where].mean()), 6)
        return parameters


def _distribution(choices: int, values: Sequence[Any] | None) -> BaseDistribution:
    if values is None:
        return FloatDistribution(0.0, 1.0) if choices == 2 else IntDistribution(0, choices - 1)
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return IntDistribution(min(values), max(values))
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return FloatDistribution(float(min(values)), float(max(values)))
    return CategoricalDistribution(list(values))
