"""Between arrays of objective values and DEAP's lists of individuals."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from deap import base


class Minimised(base.Fitness):
    """A fitness of any number of values, all to be minimised.

    DEAP's way, a class made at run time by ``creator``, does not pickle; here the weights belong to the
    object.
    """

    def __init__(self, values: Sequence[float] = ()) -> None:
        self.weights = (-1.0,) * len(values)
        super().__init__(values)

    def __deepcopy__(self, memo: dict[int, Any]) -> Minimised:
        return Minimised(self.values)


@dataclass(eq=False, slots=True)
class Individual:
    """All that DEAP's selections look at, and the row it stands for."""

    index: int
    fitness: Minimised


def individuals(values: np.ndarray) -> list[Individual]:
    """Return one individual a row of `values` ``(n, m)``."""
    return [Individual(index, Minimised(row)) for index, row in enumerate(values.tolist())]


def indices(chosen: Sequence[Individual]) -> np.ndarray:
    """Return the rows that individuals stand for, int64 of shape ``(len(chosen),)``."""
    return np.fromiter((individual.index for individual in chosen), dtype=np.int64, count=len(chosen))


@contextmanager
def global_randomness(rng: np.random.Generator) -> Iterator[None]:
    """Seed both global generators from `rng` and put their states back afterwards: DEAP draws from them and
    takes no generator.
    """
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    seed = int(rng.integers(2**32))
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
