"""Pruning of the units that many examples agree upon."""

from __future__ import annotations

import numpy as np

from operators.base import Guide
from operators.mutation.pruning import Pruning, by_locus, living, outputs_of
from spaces.base import Space
from spaces.errors import require


class ConjunctivePruning(Pruning):
    """CONJUNCTIVE: units whose output is low for one example after the other go, with all their loci.

    Source: "activation-guided mutation" (GECCO 2025, doi 10.1145/3712256.3726449) [P]: for each of up to
    `cases` sampled examples a layer's outputs are scaled to 0 .. 1 over its units, those below `threshold`
    are candidates, and the sets of candidates are intersected in random order until one unit or none is left;
    the last set that is not empty goes. The published code samples from the test set: record
    ``guide["outputs"]`` (as for :class:`VariancePruning`) on held-out training data. Units without a kept
    locus do not take part [O]: there are none where masks do not persist.

    Args:
        threshold: above 0 and at most 1.
        cases: most examples that are looked at.
        amount: largest share of a layer's living units that one event takes (rounded up), the lowest on
            average first; 1 as published. [O]
        probability: share of the genomes that are changed at all.

    Raises:
        InputError: a number out of its range, or a guide without outputs that fit the space.
    """

    needs = ("outputs",)

    def __init__(
        self, threshold: float = 0.1, cases: int = 100, amount: float = 1.0, probability: float = 1.0
    ) -> None:
        super().__init__(amount, probability)
        require(
            type(self).__name__,
            (0 < threshold <= 1, f"threshold {threshold}; expected a number above 0 and at most 1"),
            (cases >= 1, f"cases {cases}; expected at least 1"),
        )
        self.threshold, self.cases = threshold, cases

    def _to_remove(
        self, space: Space, genomes: np.ndarray, own: np.ndarray, guide: Guide, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        outputs = outputs_of(space, len(genomes), guide, self)
        units, layers = space.units_of, space.unit_layers
        to_remove, worth = np.zeros(genomes.shape, dtype=bool), np.zeros(genomes.shape)
        for row, genome in enumerate(genomes):
            cases = outputs[row][rng.permutation(len(outputs[row]))[: self.cases]]
            alive = living(units, genome, len(layers))
            low, level = np.zeros(len(layers)), np.zeros(len(layers))
            for layer in np.unique(layers[alive]):
                members = np.flatnonzero((layers == layer) & alive)
                scaled = _scaled(cases[:, members].astype(np.float64))
                level[members] = scaled.mean(axis=0)
                chosen = members[_conjunction(scaled < self.threshold)]
                most = int(np.ceil(self.amount * len(members) - 1e-9))
                low[chosen[np.argsort(level[chosen], kind="stable")][:most]] = 1
            to_remove[row], worth[row] = by_locus(units, low, 0.0) > 0, by_locus(units, level, 1.0)
        return to_remove, worth


def _scaled(cases: np.ndarray) -> np.ndarray:
    """Return outputs ``(examples, units)`` scaled to 0 .. 1 over the units of each example; 1, no candidates,
    where all are equal.
    """
    low, high = cases.min(axis=1, keepdims=True), cases.max(axis=1, keepdims=True)
    return np.divide(cases - low, high - low, out=np.ones_like(cases), where=high > low)


def _conjunction(candidates: np.ndarray) -> np.ndarray:
    """Intersect sets ``(examples, units)`` in their order until one unit or none is left; return the last set
    that is not empty.
    """
    together = np.logical_and.accumulate(candidates, axis=0)
    sizes = together.sum(axis=1)
    if not len(sizes) or sizes[0] == 0:
        return np.zeros(candidates.shape[1], dtype=bool)
    few = np.flatnonzero(sizes <= 1)
    last = len(sizes) - 1 if not len(few) else few[0] - (sizes[few[0]] == 0)
    found: np.ndarray = together[last]
    return found
