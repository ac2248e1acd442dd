"""Pruning by what the loss would be without a unit, for what that unit costs."""

from __future__ import annotations

import copy

import numpy as np

from operators.base import Guide
from operators.mutation.guided import entry
from operators.mutation.pruning import Pruning
from spaces.base import Space
from spaces.errors import require

_LEAST = 1e-12


class RemovalPruning(Pruning):
    """The units go without which the loss rises least for the parameters that they cost, whatever layer they
    are in. [O]

    Worth is ``rise / cost ** power``. ``guide["removal"]``, ``(length,)`` or ``(n, length)``, has the rise of
    the loss (see :func:`operators.criteria.removal_losses`), ``guide["cost"]`` the share of a model's
    parameters that go with a unit. Loci of which either is NaN stay. Of units without which the loss does not
    rise the dearest go first.

    Args:
        amount: share of the model's parameters that one event takes, rounded up to a unit.
        power: 0 looks at the loss alone, 1 at the loss per parameter.
        noise: standard deviation of what is added to the logarithm of each worth, so that populations try
            different sets.
        tilt: the same for all of a segment together, so that they try different shapes.
        probability: share of the genomes that are changed at all.

    Raises:
        InputError: a negative power, noise or tilt, or a guide that does not fit the space.
    """

    needs = ("removal", "cost")
    counts = "params"

    def __init__(
        self,
        amount: float = 0.1,
        power: float = 0.5,
        noise: float = 0.0,
        tilt: float = 0.0,
        probability: float = 1.0,
    ) -> None:
        super().__init__(amount, probability)
        require(
            type(self).__name__,
            (power >= 0, f"power {power}; expected at least 0"),
            (noise >= 0, f"noise {noise}; expected at least 0"),
            (tilt >= 0, f"tilt {tilt}; expected at least 0"),
        )
        self.power, self.noise, self.tilt = power, noise, tilt

    def quiet(self) -> RemovalPruning:
        other = copy.copy(self)
        other.noise = other.tilt = 0.0
        return other

    def _to_remove(
        self, space: Space, genomes: np.ndarray, own: np.ndarray, guide: Guide, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        rises, costs = (
            np.broadcast_to(entry(guide, name, self), genomes.shape) for name in ("removal", "cost")
        )
        to_remove, worth = np.zeros(genomes.shape, dtype=bool), np.zeros(genomes.shape)
        for row, genome in enumerate(genomes):
            # the cheapest in loss go first until their costs add up to the amount, which the last may exceed
            may = own[row] & (genome == 1) & np.isfinite(rises[row]) & np.isfinite(costs[row])
            cost = np.maximum(costs[row], _LEAST)
            worth[row] = np.where(may, np.maximum(rises[row], _LEAST) / cost**self.power, 0.0)
            worth[row] *= np.exp(self.noise * rng.standard_normal(len(genome)))
            if self.tilt:
                drawn = self.tilt * rng.standard_normal(len(space.segments))
                worth[row] *= np.exp(np.repeat(drawn, [segment.size for segment in space.segments]))
            order = np.flatnonzero(may)[np.argsort(worth[row, may], kind="stable")]
            to_remove[row, order[np.cumsum(cost[order]) - cost[order] < self.amount]] = True
        return to_remove, worth
