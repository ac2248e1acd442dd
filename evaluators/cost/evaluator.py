"""Parameters, MACs and bytes: the costs that need no data."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from evaluators.base import Candidate, Evaluator, Report
from evaluators.cost.counting import COSTS, count
from evaluators.cost.planned import PlannedCosts
from evaluators.data.base import Data
from spaces.base import Sliced, Space
from spaces.errors import InputError

_REMEMBERED = 10_000
_ROUNDS = 5


class Cost(Evaluator):
    """Screens ``params``, ``macs`` and ``bytes`` as :func:`evaluators.cost.counting.count` defines them.

    Where the space has a slice plan they are arithmetic on kept counts over the whole population; elsewhere
    each new genome is built once and counted, and the last ten thousand are remembered. A genome that cannot
    be built costs infinity: it fails with its reason where it is evaluated.
    """

    screened = COSTS

    def bind(self, space: Space, data: Data | None = None) -> None:
        """Raises :class:`InputError` where the space has no slice plan and there are no data to run a model
        on.
        """
        super().bind(space, data)
        self.__dict__.pop("_planned", None)
        self._counted: OrderedDict[bytes, tuple[float, ...]] = OrderedDict()
        if data is None and not isinstance(space, Sliced):
            raise InputError(
                f"evaluator Cost: {type(space).__name__} has no slice plan, so models are run to count "
                f"MACs; expected data with an example"
            )

    def screen(self, genomes: np.ndarray) -> dict[str, np.ndarray]:
        """Return params, macs and bytes of genomes ``(n, length)``, each float64 of shape ``(n,)``."""
        if self._planned is not None:
            return self._planned(genomes)
        rows = np.array([self._count(genome) for genome in genomes]).reshape(-1, len(COSTS))
        return dict(zip(COSTS, rows.T.copy(), strict=True))

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        """Yield one empty report: all there is to say was screened."""
        yield Report({})

    @cached_property
    def _planned(self) -> PlannedCosts | None:
        return PlannedCosts(self.space.plan) if isinstance(self.space, Sliced) else None

    def _count(self, genome: np.ndarray) -> tuple[float, ...]:
        key = genome.tobytes()
        if key not in self._counted:
            assert self.data is not None
            try:
                with torch.random.fork_rng(devices=[]):  # building may draw initial weights
                    counted = count(self.space.build(genome), self.data.example())
                self._counted[key] = tuple(counted[name] for name in COSTS)
            except Exception:  # a user's build may raise anything; the worker will report it
                self._counted[key] = (np.inf,) * len(COSTS)
            if len(self._counted) > _REMEMBERED:
                self._counted.popitem(last=False)
        self._counted.move_to_end(key)
        return self._counted[key]

    def __getstate__(self) -> dict[str, Any]:
        state = {k: v for k, v in self.__dict__.items() if k != "_planned"}
        return state | {"_counted": OrderedDict()} if "_counted" in state else state


def smallest(space: Space, data: Data | None = None) -> dict[str, float]:
    """Return the smallest reachable ``params``, ``macs`` and ``bytes``, each on its own.

    For masks that is the valid genome nearest to keeping nothing. In other spaces segments are set to each of
    their alleles in turn, as long as that makes the cost smaller: exact where a segment's cheapest allele
    does not depend on the others (as with depths and widths).
    """
    cost = Cost()
    cost.bind(space, data)
    start = space.repair(np.zeros((1, space.length), dtype=np.uint8))
    if cost._planned is not None:
        return {name: float(values[0]) for name, values in cost.screen(start).items()}
    return {name: _descend(cost, space, start, name) for name in COSTS}


def _descend(cost: Cost, space: Space, genome: np.ndarray, name: str) -> float:
    """Coordinate descent over whole segments."""
    best = float(cost.screen(genome)[name][0])
    for _ in range(_ROUNDS):
        before = best
        for segment, part in zip(space.segments, space.slices.values(), strict=True):
            children = np.repeat(genome, segment.choices, axis=0)
            children[:, part] = np.arange(segment.choices, dtype=np.uint8)[:, None]
            children = space.repair(children)
            values = cost.screen(children)[name]
            if values.min() < best:
                best, genome = float(values.min()), children[[values.argmin()]]
        if best == before:
            break
    return best
