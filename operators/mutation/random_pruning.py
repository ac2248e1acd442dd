"""Pruning at random: the control."""

from __future__ import annotations

import numpy as np

from operators.base import Guide
from operators.mutation.pruning import Pruning
from spaces.base import Space


class RandomPruning(Pruning):
    """RANDOM: a share of each segment's own loci goes off, drawn among all of them, so that fewer fall where
    many are off already.

    Source: the control of "activation-guided mutation" (GECCO 2025, doi 10.1145/3712256.3726449): 10 % of the
    entries of each tensor. [P] A broken number of loci is rounded up or down at random. [O]

    Args:
        amount: the share.
        probability: share of the genomes that are changed at all.
    """

    def __init__(self, amount: float = 0.1, probability: float = 1.0) -> None:
        super().__init__(amount, probability)

    def _to_remove(
        self, space: Space, genomes: np.ndarray, own: np.ndarray, guide: Guide, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        keys = np.where(own, rng.random(genomes.shape), np.inf)
        to_remove = np.zeros(genomes.shape, dtype=bool)
        for part in space.slices.values():
            wanted = self.amount * own[:, part].sum(axis=1)
            counts = np.floor(wanted + rng.random(len(genomes))).astype(np.int64)
            ranks = keys[:, part].argsort(axis=1).argsort(axis=1)
            to_remove[:, part] = ranks < counts[:, None]
        return to_remove, keys
