"""Pruning by what units contribute to those behind them."""

from __future__ import annotations

import numpy as np

from operators.base import Guide
from operators.mutation.guided import entry
from operators.mutation.pruning import Pruning, by_locus, outputs_of
from spaces.base import Space
from spaces.errors import InputError


class ContributionPruning(Pruning):
    """The units that contribute least go, whatever layer they are in. [O]

    A contribution is the standard deviation of a unit's output over the recorded examples times the norm of
    the weights that read it, over the mean of that in its segment: a unit that hardly varies, or that the
    next layer hardly reads, can go. Noise lets populations try different sets.

    ``guide["outputs"]`` is as of :class:`VariancePruning`; ``guide["outgoing"]``, ``(length,)`` or
    ``(n, length)``, has the norms.

    Args:
        amount: share of the kept loci, of all segments together, that one event takes.
        noise: standard deviation of what is added to the logarithm of each contribution.
        probability: share of the genomes that are changed at all.

    Raises:
        InputError: negative noise, or a guide that does not fit the space.
    """

    needs = ("outputs", "outgoing")

    def __init__(self, amount: float = 0.1, noise: float = 0.0, probability: float = 1.0) -> None:
        super().__init__(amount, probability)
        if noise < 0:
            raise InputError(f"{type(self).__name__}: noise {noise}; expected at least 0")
        self.noise = noise

    def _to_remove(
        self, space: Space, genomes: np.ndarray, own: np.ndarray, guide: Guide, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        outputs = outputs_of(space, len(genomes), guide, self)
        outgoing = np.broadcast_to(entry(guide, "outgoing", self), genomes.shape)
        units = space.units_of
        to_remove, worth = np.zeros(genomes.shape, dtype=bool), np.zeros(genomes.shape)
        for row, genome in enumerate(genomes):
            spread = by_locus(units, outputs[row].std(axis=0, dtype=np.float64), np.nan)
            may = own[row] & (genome == 1) & np.isfinite(spread)
            worth[row] = np.where(may, spread * outgoing[row], 0.0)
            for part in space.slices.values():
                mean = worth[row, part][may[part]].mean() if may[part].any() else 0.0
                worth[row, part] /= max(mean, 1e-12)
            worth[row] *= np.exp(self.noise * rng.standard_normal(genomes.shape[1]))
            order = np.flatnonzero(may)[np.argsort(worth[row, may], kind="stable")]
            to_remove[row, order[: rng.binomial(len(order), self.amount)]] = True
        return to_remove, worth
