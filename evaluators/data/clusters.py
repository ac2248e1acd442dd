"""Noisy binary clusters, the data of the GECCO 2025 paper."""

from __future__ import annotations

import numpy as np

from evaluators.data.arrays import Arrays
from evaluators.data.base import SPLITS
from evaluators.data.task import Classification
from spaces.errors import InputError


class BinaryClusters(Arrays):
    """Random bit strings, one a cluster, of which every sample is a copy with some bits flipped; the label is
    the cluster.

    Source: the data of "activation-guided mutation" (GECCO 2025, doi 10.1145/3712256.3726449), as its code
    draws them [P]: centroid bits XOR noise. Every split has all clusters (in turn) and noise of its own; the
    paper has no calibration and no search split. An autoencoder takes it as
    ``Reconstruction(BinaryClusters())``; the best that it can do there is an absolute error of `noise`.

    Args:
        clusters: number of them.
        samples: of each cluster, in each split.
        size: bits of a sample; inputs are float32 zeros and ones ``(samples, size)``.
        noise: chance that a bit is flipped.
        probability: chance that a bit of a centroid is 1.
        seed: of centroids and noise.
        as_published: but for training, the k-th samples of all clusters share their noise, as in the paper's
            code.

    Raises:
        InputError: a number out of its range, named.
    """

    def __init__(
        self,
        clusters: int = 10,
        samples: int = 100,
        size: int = 1000,
        noise: float = 0.05,
        probability: float = 0.75,
        seed: int = 0,
        as_published: bool = False,
    ) -> None:
        for name, number, least in (("clusters", clusters, 2), ("samples", samples, 1), ("size", size, 1)):
            if number < least:
                raise InputError(f"data: {name} {number}; expected at least {least}")
        for name, share in (("noise", noise), ("probability", probability)):
            if not 0 <= share <= 1:
                raise InputError(f"data: {name} {share}; expected a number of 0 to 1")
        rng = np.random.default_rng(seed)
        centroids = rng.random((clusters, size)) < probability
        flips = rng.random((len(SPLITS), samples, clusters, size)) < noise
        if as_published:
            flips[1:] = flips[1:, :, :1]  # the first split is that of training
        bits = (centroids ^ flips).reshape(-1, size)
        labels = np.tile(np.arange(clusters), len(SPLITS) * samples)
        rows = np.arange(len(bits)).reshape(len(SPLITS), -1)
        shares = dict(zip(SPLITS, rows, strict=True))
        super().__init__(bits.astype(np.float32), labels, shares, Classification(clusters), seed)  # type: ignore[arg-type]
