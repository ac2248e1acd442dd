"""Mutation along the activations that the parent itself had when it was evaluated."""

from __future__ import annotations

import numpy as np

from operators.base import Guide
from operators.mutation.guided import Guided, entry
from operators.ranks import segment_ranks
from spaces.base import Space


class ActivationGuided(Guided):
    """Flips quiet channels of the parent off, and dropped channels that ought to be loud on.

    Source: activation-guided mutation (GECCO 2025, doi 10.1145/3712256.3726449) acts on weights during
    training [P]; acting on groups of channels, down and up, is ours [O] (METHODS 2). ``guide["activation"]``
    has the parent's mean absolute activations, ``(n, length)`` or ``(length,)``, NaN where a channel was not
    there. Those are taken from ``guide["base_activation"]`` (the same of the base model), in each segment
    multiplied by how much louder the parent's kept channels are than the base model's; without that entry
    they lie in the middle of their segment.

    Args:
        rate: expected flips as a share of the keep bits.
        pressure: how strongly ranks decide; 0 ignores them.
        probability: share of the genomes that are changed at all.

    Raises:
        InputError: when called with a guide that lacks ``activation``, or for a space without keep bits.
    """

    needs = ("activation",)

    def _ranks(self, space: Space, genomes: np.ndarray, guide: Guide, rng: np.random.Generator) -> np.ndarray:
        recorded = np.broadcast_to(entry(guide, "activation", self), genomes.shape).astype(np.float64)
        if "base_activation" not in guide:
            return segment_ranks(space, recorded)
        base = np.broadcast_to(guide["base_activation"], genomes.shape).astype(np.float64)
        return segment_ranks(
            space, np.where(np.isnan(recorded), base * _loudness(space, recorded, base), recorded)
        )


def _loudness(space: Space, recorded: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Return the ratio of both means over what both know of a segment, for each of its loci, ``(n, length)``;
    1 where that is undefined.
    """
    sizes = np.array([segment.size for segment in space.segments])
    known = ~np.isnan(recorded) & ~np.isnan(base)
    sums = [
        np.add.reduceat(np.where(known, scores, 0.0), np.cumsum(sizes) - sizes, axis=1)
        for scores in (recorded, base)
    ]
    defined = (sums[0] > 0) & (sums[1] > 0)
    return np.repeat(np.divide(sums[0], sums[1], out=np.ones_like(sums[0]), where=defined), sizes, axis=1)
