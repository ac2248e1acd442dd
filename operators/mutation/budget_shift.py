"""Big steps: a whole segment becomes narrower or wider."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from operators.base import Guide
from operators.draw import draw
from operators.mutation.base import Mutation
from operators.mutation.guided import flip_weights, keep_bits
from operators.ranks import UNKNOWN, drawn_ranks
from spaces.base import Space
from spaces.errors import require


class BudgetShift(Mutation):
    """Moves the kept share of whole segments up or down, dropping low scores and bringing back high ones. [O]

    Single flips cross the space one channel at a time; the width of a layer is a coordinate of its own.

    Args:
        span: a share moves by up to this much (uniform), and by one channel at least.
        segments: expected number of segments that move; at least one does.
        criteria: entries of the guide; each genome draws one of those that are there, and without any the
            channels are drawn alike.
        pressure: how strongly ranks decide; 0 ignores them.
        probability: share of the genomes that are changed at all.

    Raises:
        InputError: when called for a space without keep bits.
    """

    def __init__(
        self,
        span: float = 0.5,
        segments: float = 1.0,
        criteria: Sequence[str] = ("magnitude", "taylor"),
        pressure: float = 2.0,
        probability: float = 1.0,
    ) -> None:
        super().__init__(probability)
        require(
            type(self).__name__,
            (0 < span <= 1, f"span must be above 0 and at most 1, got {span}"),
            (segments > 0, f"segments must be above 0, got {segments}"),
            (pressure >= 0, f"pressure must be at least 0, got {pressure}"),
        )
        self.span, self.segments, self.criteria, self.pressure = span, segments, tuple(criteria), pressure

    def _apply(self, space: Space, genomes: np.ndarray, guide: Guide, rng: np.random.Generator) -> np.ndarray:
        keep_bits(space, self)
        off_weights, on_weights = flip_weights(self._ranks(space, genomes, guide, rng), self.pressure)
        parts = [
            part
            for segment, part in zip(space.segments, space.slices.values(), strict=True)
            if segment.choices == 2
        ]
        moved = rng.random((len(genomes), len(parts))) < self.segments / len(parts)
        moved[np.arange(len(genomes)), rng.integers(len(parts), size=len(genomes))] |= ~moved.any(axis=1)
        for column in np.flatnonzero(moved.any(axis=0)):
            rows, part = np.flatnonzero(moved[:, column]), parts[column]
            kept = genomes[rows, part] == 1
            off, on = self._shift(kept, rng)
            flips = draw(kept * off_weights[rows, part], off, rng) | draw(
                ~kept * on_weights[rows, part], on, rng
            )
            genomes[rows, part] ^= flips
        return genomes

    def _ranks(self, space: Space, genomes: np.ndarray, guide: Guide, rng: np.random.Generator) -> np.ndarray:
        tables = [guide[name] for name in self.criteria if name in guide]
        return drawn_ranks(space, tables, len(genomes), rng) if tables else np.full(genomes.shape, UNKNOWN)

    def _shift(self, kept: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return how many channels of a segment go off and how many come on, each ``(n,)``; one of the two is
        0.
        """
        size, count = kept.shape[1], kept.sum(axis=1)
        amount = np.ceil(rng.uniform(0, self.span, len(kept)) * size).astype(np.int64).clip(1)
        # A full segment can only shrink, and none is emptied: repair would only bring something back.
        up = np.where(count == size, False, np.where(count <= 1, True, rng.random(len(kept)) < 0.5))
        return np.where(up, 0, np.minimum(amount, np.maximum(count - 1, 1))), np.where(up, amount, 0)
