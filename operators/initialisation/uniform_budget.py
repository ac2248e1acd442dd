"""Random genomes of all sizes."""

from __future__ import annotations

import numpy as np

from operators.base import Guide
from operators.initialisation.base import Initialisation, keep_range
from spaces.base import Space


class UniformBudget(Initialisation):
    """Each genome draws a keep share, then keeps every channel with that chance; other loci come from
    ``space.sample``. [O]

    Fair coins alone would give models of half the size only: with many loci the kept share of such a genome
    hardly varies.

    Args:
        min_keep: smallest share.
        max_keep: largest share.
    """

    def __init__(self, min_keep: float = 0.1, max_keep: float = 1.0) -> None:
        self.min_keep, self.max_keep = keep_range(min_keep, max_keep)

    def _draw(self, space: Space, n: int, guide: Guide, rng: np.random.Generator) -> np.ndarray:
        shares = rng.uniform(self.min_keep, self.max_keep, size=(n, 1))
        kept = rng.random((n, space.length)) < shares
        return np.where(space.choices == 2, kept, space.sample(n, rng)).astype(np.uint8)
