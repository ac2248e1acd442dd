"""Pruning by how much a unit's output varies."""

from __future__ import annotations

from typing import Literal

import numpy as np

from operators.base import Guide
from operators.mutation.pruning import Pruning, by_locus, living, outputs_of
from spaces.base import Space
from spaces.errors import InputError

Direction = Literal["high", "low"]


class VariancePruning(Pruning):
    """VARIANCE: each locus goes off with a chance that grows with the standard deviation of its unit's output
    over the recorded examples.

    Source: "activation-guided mutation" (GECCO 2025, doi 10.1145/3712256.3726449). Deviations are scaled to 0
    .. 1 within each layer; the chance is that number (``high``, as the published code has it [P]) or what it
    lacks to 1 (``low``). A layer's units without a kept locus have no say in the scale [O]: there are none
    where masks do not persist. Where all vary alike, none goes.

    ``guide["outputs"]`` has the recorded outputs, ``(examples, units)``; the space's ``units_of`` says which
    unit a locus belongs to and ``unit_layers`` which layer a unit belongs to (without them each locus is a
    unit and each segment a layer).

    Args:
        direction: which units go, ``high`` or ``low``.
        amount: factor of the chance; 1 as published.
        probability: share of the genomes that are changed at all.

    Raises:
        InputError: an unknown direction, or a guide without outputs that fit the space.
    """

    needs = ("outputs",)

    def __init__(self, direction: Direction = "high", amount: float = 1.0, probability: float = 1.0) -> None:
        super().__init__(amount, probability)
        if direction not in ("high", "low"):
            raise InputError(f"{type(self).__name__}: direction {direction!r}; expected high or low")
        self.direction = direction

    def _to_remove(
        self, space: Space, genomes: np.ndarray, own: np.ndarray, guide: Guide, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        outputs = outputs_of(space, len(genomes), guide, self)
        units, layers = space.units_of, space.unit_layers
        chances = np.zeros(genomes.shape)
        for row, genome in enumerate(genomes):
            spread = _scaled(
                outputs[row].std(axis=0, dtype=np.float64), layers, living(units, genome, len(layers))
            )
            chances[row] = by_locus(
                units, self.amount * (spread if self.direction == "high" else 1 - spread), np.nan
            )
        return rng.random(genomes.shape) < chances, -chances


def _scaled(spread: np.ndarray, layers: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Return deviations scaled to 0 .. 1 over each layer's living units, NaN for others and where they are
    all equal.
    """
    scaled = np.full(len(spread), np.nan)
    for layer in np.unique(layers):
        of_layer = (layers == layer) & alive
        values = spread[of_layer]
        if len(values) and values.max() > values.min():
            scaled[of_layer] = (values - values.min()) / (values.max() - values.min())
    return scaled
