"""Known starting points: models that the user names by their segments."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from operators.base import Guide
from operators.initialisation.base import Initialisation
from operators.initialisation.from_criteria import FromCriteria
from operators.initialisation.uniform_budget import UniformBudget
from spaces.base import Segment, Space
from spaces.errors import InputError


class Given(Initialisation):
    """Gives the points that it is given, each once, then what another initialisation draws. [O]

    A point says for some segments what they are; the others are as in the base model (at random where there
    is none):

    - of a group of channels the share that is kept (``0.5``; the best by the first scores of the guide, the
      first ones without scores), or the list of those that are kept (``[0, 2, 5]``),
    - of a choice its value (``width: 32``),
    - of anything else the list of its alleles.

    Args:
        points: segment -> what it is, one mapping a point; at least one.
        then: what gives the rest; null: the default of Evolution.

    Raises:
        InputError: there is no point; before a search begins: a segment that the space does not have, or a
            value that the segment cannot take.
    """

    checks = True

    def __init__(self, points: Sequence[dict[str, Any]], then: Initialisation | None = None) -> None:
        if not points:
            raise InputError("Given: no points; expected at least one mapping of segments")
        self.points, self.then = [dict(point) for point in points], then
        self._left: deque[np.ndarray] | None = None

    def check(self, space: Space) -> None:
        """See that the space has all segments and values.

        Raises:
            InputError: of the first that it does not have.
        """
        rng = np.random.default_rng(0)
        for place in range(len(self.points)):
            self._genome(space, place, {}, rng)

    def at_hand(self, space: Space, rng: np.random.Generator) -> int:
        left = len(self.points) if self._left is None else len(self._left)
        return left + (0 if self.then is None else self.then.at_hand(space, rng))

    def _draw(self, space: Space, n: int, guide: Guide, rng: np.random.Generator) -> np.ndarray:
        if self._left is None:
            self._left = deque(self._genome(space, place, guide, rng) for place in range(len(self.points)))
        taken = [self._left.popleft() for _ in range(min(n, len(self._left)))]
        if len(taken) < n:
            rest = self.then or default_initialisation(space, guide)
            taken.extend(rest(space, n - len(taken), guide, rng))
        return np.stack(taken) if taken else np.empty((0, space.length), dtype=np.uint8)

    def _genome(self, space: Space, place: int, guide: Guide, rng: np.random.Generator) -> np.ndarray:
        genome = (space.sample(1, rng)[0] if space.base is None else space.base).copy()
        segments = {segment.name: segment for segment in space.segments}
        for name, value in self.points[place].items():
            where = f"initialisation: points.{place}.{name}"
            if name not in segments:
                raise InputError(f"{where}: no segment of the space; expected one of {', '.join(segments)}")
            part = space.slices[name]
            genome[part] = _alleles(where, value, segments[name], space.alleles.get(name), guide, part)
        return genome


def default_initialisation(space: Space, guide: Guide) -> Initialisation:
    """Return what a search begins with by default: from criteria where there are scores, else random genomes
    of all sizes.
    """
    scored = any(entry.ndim == 1 for entry in guide.values())
    return FromCriteria() if scored and (space.choices == 2).any() else UniformBudget()


def _alleles(
    where: str,
    value: Any,
    segment: Segment,
    values: Sequence[Any] | None,
    guide: Guide,
    part: slice,
) -> np.ndarray:
    """Return the alleles ``(size,)`` that a value of a point stands for."""
    if values is not None and segment.size == 1:
        if value not in values:
            raise InputError(f"{where}: {value!r}; expected one of {', '.join(map(str, values))}")
        return np.array([list(values).index(value)], dtype=np.uint8)
    bits = segment.choices == 2
    if bits and isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        return _share(float(value), segment.size, guide, part)
    whole = isinstance(value, list | tuple) and all(
        isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in value
    )
    if bits and whole and all(item < segment.size for item in value):
        kept = np.zeros(segment.size, dtype=np.uint8)
        kept[list(value)] = 1
        return kept
    if not bits and whole and len(value) == segment.size and all(item < segment.choices for item in value):
        return np.array(value, dtype=np.uint8)
    accepted = (
        f"a share from 0 to 1, or a list of kept channels below {segment.size}"
        if bits
        else f"a list of {segment.size} whole numbers below {segment.choices}"
    )
    raise InputError(f"{where}: {value!r}; expected {accepted}")


def _share(share: float, size: int, guide: Guide, part: slice) -> np.ndarray:
    """Return keep bits of the best channels, at least one unless none is wanted."""
    scores = next((entry[part] for entry in guide.values() if entry.ndim == 1), np.zeros(size))
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
    kept = np.zeros(size, dtype=np.uint8)
    kept[order[: max(round(share * size), int(share > 0))]] = 1
    return kept
