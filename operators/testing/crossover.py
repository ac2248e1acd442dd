"""The contract of a crossover."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod

import numpy as np
import pytest

from operators.crossover import Crossover
from operators.testing.toys import ToySpace, assert_valid, global_generators_untouched
from spaces.base import Space


class CrossoverContract(ABC):
    """What strategies rely on. Override ``space`` where the crossover is made for a certain one."""

    @abstractmethod
    def crossover(self, probability: float = 1.0) -> Crossover:
        """Return the crossover with that probability."""

    def space(self) -> Space:
        return ToySpace()

    def parents(self, n: int = 200) -> tuple[Space, np.ndarray, np.ndarray]:
        """Return the space and two populations."""
        space, rng = self.space(), np.random.default_rng(5)
        return space, space.sample(n, rng), space.sample(n, rng)

    @pytest.mark.parametrize("n", [0, 1, 200])
    def test_children_are_valid_genomes(self, n: int) -> None:
        space, first, second = self.parents(n)
        assert_valid(space, self.crossover()(space, first, second, np.random.default_rng(0)), first.shape)

    def test_parents_stay_as_they_are(self) -> None:
        space, first, second = self.parents()
        before = first.copy(), second.copy()
        self.crossover()(space, first, second, np.random.default_rng(0))
        assert (first == before[0]).all()
        assert (second == before[1]).all()

    def test_equal_parents_have_an_equal_child(self) -> None:
        space, first, _ = self.parents()
        assert (self.crossover()(space, first, first.copy(), np.random.default_rng(0)) == first).all()

    def test_children_differ_from_both_parents(self) -> None:
        space, first, second = self.parents()
        children = self.crossover()(space, first, second, np.random.default_rng(0))
        assert ((children != first).any(axis=1) & (children != second).any(axis=1)).mean() > 0.2

    def test_probability_0_copies_the_first_parent(self) -> None:
        space, first, second = self.parents()
        assert (self.crossover(0.0)(space, first, second, np.random.default_rng(0)) == first).all()

    def test_same_generator_same_children(self) -> None:
        space, first, second = self.parents()
        children = [self.crossover()(space, first, second, np.random.default_rng(seed)) for seed in (3, 3, 4)]
        assert (children[0] == children[1]).all()
        assert (children[0] != children[2]).any()

    def test_global_generators_stay_as_they_are(self) -> None:
        space, first, second = self.parents()
        with global_generators_untouched():
            self.crossover()(space, first, second, np.random.default_rng(0))

    def test_pickles(self) -> None:
        space, first, second = self.parents()
        crossover = self.crossover()
        children = [
            c(space, first, second, np.random.default_rng(0))
            for c in (crossover, pickle.loads(pickle.dumps(crossover)))
        ]
        assert (children[0] == children[1]).all()
