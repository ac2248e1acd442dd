"""The contract of an initialisation."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod

import numpy as np
import pytest

from operators.base import Guide
from operators.initialisation import Initialisation
from operators.testing.toys import ToySpace, assert_valid, global_generators_untouched
from spaces.base import Space


class InitialisationContract(ABC):
    """What strategies rely on. Override ``space`` and ``guide`` where the initialisation is made for certain
    ones.
    """

    @abstractmethod
    def initialisation(self) -> Initialisation:
        """Return the initialisation."""

    def space(self) -> Space:
        return ToySpace()

    def guide(self, space: Space) -> Guide:
        """Scores of two criteria, one of them with gaps."""
        rng = np.random.default_rng(7)
        gaps = np.where(rng.random(space.length) < 0.2, np.nan, rng.random(space.length))
        return {"magnitude": rng.random(space.length), "taylor": gaps}

    def drawn(self, n: int, seed: int = 0) -> tuple[Space, np.ndarray]:
        """Return the space and `n` first genomes."""
        space = self.space()
        return space, self.initialisation()(space, n, self.guide(space), np.random.default_rng(seed))

    @pytest.mark.parametrize("n", [0, 1, 100])
    def test_genomes_are_valid(self, n: int) -> None:
        space, genomes = self.drawn(n)
        assert_valid(space, genomes, (n, space.length))

    def test_genomes_differ(self) -> None:
        assert len(np.unique(self.drawn(100)[1], axis=0)) > 50

    def test_same_generator_same_genomes(self) -> None:
        assert (self.drawn(20, seed=3)[1] == self.drawn(20, seed=3)[1]).all()
        assert (self.drawn(20, seed=3)[1] != self.drawn(20, seed=4)[1]).any()

    def test_global_generators_stay_as_they_are(self) -> None:
        with global_generators_untouched():
            self.drawn(20)

    def test_pickles(self) -> None:
        space = self.space()
        copied = pickle.loads(pickle.dumps(self.initialisation()))
        assert (copied(space, 20, self.guide(space), np.random.default_rng(0)) == self.drawn(20)[1]).all()
