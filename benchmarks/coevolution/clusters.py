"""The paper's data: bits of ten centroids, seen through noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

CLUSTERS, SAMPLES, SIZE = 10, 100, 1000
NOISE, ONES = 0.05, 0.75


@dataclass(frozen=True)
class Clusters:
    """Train ``(1000, 1000)``, test ``(100, 1000)`` and centroids ``(10, 1000)``, all of zeros and ones,
    float32.
    """

    train: Tensor
    test: Tensor
    centroids: Tensor


def clusters(seed: int) -> Clusters:
    """Draw centroids and examples [P, as the published code does it].

    A centroid's bit is a draw of Binomial(2, .5), of which all but zero count as one: P(bit = 1) = .75. A
    training example is a centroid XOR noise of its own. The test examples are a hundred, ten of a centroid:
    the published code has a thousand, the same hundred ten times over, since its mask of test noise
    ``(100, 1000)`` is broadcast over the ten blocks.
    """
    rng = np.random.default_rng([seed, 1])
    centroids = rng.random((CLUSTERS, SIZE)) < ONES
    train = np.tile(centroids, (SAMPLES, 1)) ^ (rng.random((CLUSTERS * SAMPLES, SIZE)) < NOISE)
    test = np.tile(centroids, (SAMPLES // CLUSTERS, 1)) ^ (rng.random((SAMPLES, SIZE)) < NOISE)
    return Clusters(*(torch.from_numpy(bits.astype(np.float32)) for bits in (train, test, centroids)))
