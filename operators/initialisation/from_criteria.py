"""One-shot pruning as a starting point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from operators.base import Guide
from operators.initialisation.base import Initialisation, keep_range
from operators.ranks import segment_ranks
from spaces.base import Space
from spaces.errors import InputError, require


class FromCriteria(Initialisation):
    """Each genome draws a budget, a criterion and a way of ranking, and keeps the best-scored channels within
    the budget. [O]

    The ways of ranking: over the whole genome, scores divided by the mean of their segment (as the global
    pruning of Torch-Pruning does, [P]), the same share of every segment, or a share of its own for each. Loci
    that are no keep bits come from ``space.sample``; of channels that the criterion knows nothing of (NaN)
    the score counts as their segment's mean.

    Args:
        names: entries of the guide to draw from; None for all that are one score a locus.
        min_keep: smallest budget, as a share of the channels.
        max_keep: largest budget.
        global_share: chance that a genome ranks over the whole genome.
        own_share: chance that every segment draws a budget of its own.

    Raises:
        InputError: when called with a guide that lacks a name, or has no entry at all.
    """

    def __init__(
        self,
        names: Sequence[str] | None = None,
        min_keep: float = 0.1,
        max_keep: float = 1.0,
        global_share: float = 0.4,
        own_share: float = 0.4,
    ) -> None:
        require(
            type(self).__name__,
            (
                names is None or (names and not isinstance(names, str)),
                f"names must be a list of at least one name, or None, got {names!r}",
            ),
            (
                min(global_share, own_share) >= 0 and global_share + own_share <= 1,
                f"global_share and own_share must add up to 0 .. 1, got {global_share} and {own_share}",
            ),
        )
        self.names = None if names is None else tuple(names)
        self.min_keep, self.max_keep = keep_range(min_keep, max_keep)
        self.global_share, self.own_share = global_share, own_share

    def _draw(self, space: Space, n: int, guide: Guide, rng: np.random.Generator) -> np.ndarray:
        names = self._known(guide)
        means = np.stack([_over_segment_means(space, guide[name]) for name in names])
        ranks = np.stack([segment_ranks(space, guide[name]) for name in names])
        criterion = rng.integers(len(names), size=n)
        way = rng.random((n, 1))
        globally, apart = way < self.global_share, way >= 1 - self.own_share
        shares = rng.uniform(self.min_keep, self.max_keep, size=(n, 1))
        own = np.where(
            apart, rng.uniform(self.min_keep, self.max_keep, size=(n, len(space.segments))), shares
        )
        # Equal scores are ordered by chance, so that a flat criterion is no vote for the first channels.
        bits, chance = space.choices == 2, rng.random((n, space.length))
        best = _best(means[criterion], chance, bits, shares)
        quota = np.zeros_like(best)
        for column, (segment, part) in enumerate(zip(space.segments, space.slices.values(), strict=True)):
            if segment.choices == 2:
                quota[:, part] = _best(
                    ranks[criterion, part], chance[:, part], bits[part], own[:, column, None]
                )
        return np.where(bits, np.where(globally, best, quota), space.sample(n, rng)).astype(np.uint8)

    def _known(self, guide: Guide) -> tuple[str, ...]:
        entries = tuple(sorted(name for name, scores in guide.items() if scores.ndim == 1))
        missing = [name for name in self.names or () if name not in entries]
        if missing or not entries:
            wanted = repr(missing[0]) if missing else "of any name"
            raise InputError(
                f"FromCriteria: the guide has no scores {wanted}; it has {', '.join(entries) or 'nothing'}"
            )
        return self.names or entries


def _best(scores: np.ndarray, chance: np.ndarray, bits: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return where each row's best-scored keep bits are, the `shares` ``(n, 1)`` of them, bool of the shape
    of `scores`.
    """
    order = np.lexsort((chance, np.where(bits, -scores, np.inf)), axis=-1)
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(scores.shape[1])[None], axis=1)
    return places < np.rint(shares * bits.sum())


def _over_segment_means(space: Space, scores: np.ndarray) -> np.ndarray:
    """Return the scores over the mean absolute score of their segment, ``(length,)``; 1 where unknown."""
    result = np.ones(space.length)
    for part in space.slices.values():
        values = np.asarray(scores[part], dtype=np.float64)
        known = ~np.isnan(values)
        mean = np.abs(values[known]).mean() if known.any() else 0.0
        if mean > 0:
            result[part] = np.where(known, values / mean, 1.0)
    return result
