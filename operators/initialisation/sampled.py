"""Random genomes as the space itself samples them."""

from __future__ import annotations

import numpy as np

from operators.base import Guide
from operators.initialisation.base import Initialisation
from spaces.base import Space


class Sampled(Initialisation):
    """Genomes as ``space.sample`` draws them."""

    def _draw(self, space: Space, n: int, guide: Guide, rng: np.random.Generator) -> np.ndarray:
        return space.sample(n, rng)
