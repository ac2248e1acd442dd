"""The contract of a mutation."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod

import numpy as np
import pytest

from operators.base import Guide
from operators.mutation import Mutation
from operators.testing.toys import ToySpace, assert_valid, global_generators_untouched
from spaces.base import Space
from spaces.errors import InputError


class MutationContract(ABC):
    """What strategies rely on. Override ``space`` where the mutation is made for a certain one."""

    @abstractmethod
    def mutation(self) -> Mutation:
        """Return the mutation, with a probability of 1."""

    def space(self) -> Space:
        return ToySpace()

    def guide(self, space: Space, n: int) -> Guide:
        """Scores under all names that the mutation needs, one row a genome and with gaps, beside a criterion
        without.
        """
        rng = np.random.default_rng(7)
        needed = {name: rng.random((n, space.length)) for name in self.mutation().needs}
        for scores in needed.values():
            scores[rng.random(scores.shape) < 0.2] = np.nan
        return {"magnitude": rng.random(space.length)} | needed

    def mutated(
        self, n: int = 200, seed: int = 0, mutation: Mutation | None = None
    ) -> tuple[Space, np.ndarray, np.ndarray]:
        """Return the space, `n` genomes, and what becomes of them."""
        space = self.space()
        genomes = space.sample(n, np.random.default_rng(100))
        return (
            space,
            genomes,
            (mutation or self.mutation())(space, genomes, self.guide(space, n), np.random.default_rng(seed)),
        )

    @pytest.mark.parametrize("n", [0, 1, 200])
    def test_results_are_valid_genomes(self, n: int) -> None:
        space, genomes, changed = self.mutated(n)
        assert_valid(space, changed, genomes.shape)

    def test_something_changes(self) -> None:
        _, genomes, changed = self.mutated()
        assert (genomes != changed).any(axis=1).mean() > 0.3

    def test_originals_and_guide_stay_as_they_are(self) -> None:
        space = self.space()
        genomes = space.sample(50, np.random.default_rng(100))
        guide = self.guide(space, 50)
        before = genomes.copy(), {name: scores.copy() for name, scores in guide.items()}
        self.mutation()(space, genomes, guide, np.random.default_rng(0))
        assert (genomes == before[0]).all()
        assert all(np.array_equal(guide[name], scores, equal_nan=True) for name, scores in before[1].items())

    def test_same_generator_same_result(self) -> None:
        assert (self.mutated(seed=3)[2] == self.mutated(seed=3)[2]).all()
        assert (self.mutated(seed=3)[2] != self.mutated(seed=4)[2]).any()

    def test_global_generators_stay_as_they_are(self) -> None:
        with global_generators_untouched():
            self.mutated()

    def test_probability_is_the_share_of_changed_genomes(self) -> None:
        always, half, never = (self.mutation() for _ in range(3))
        half.probability, never.probability = 0.5, 0.0
        shares = [
            (genomes != changed).any(axis=1).mean()
            for _, genomes, changed in (self.mutated(1000, 0, m) for m in (always, half, never))
        ]
        assert shares[2] == 0
        assert abs(shares[1] - shares[0] / 2) < 0.08

    def test_every_keep_bit_can_go_and_come_back(self) -> None:
        space = self.space()
        bits = space.choices == 2
        full = space.repair(np.where(bits, 1, space.sample(500, np.random.default_rng(0))).astype(np.uint8))
        few = space.repair(np.where(bits, 0, full).astype(np.uint8))
        rng, gone, back = np.random.default_rng(1), np.zeros(space.length, bool), np.zeros(space.length, bool)
        for _ in range(8):
            gone |= (self.mutation()(space, full, self.guide(space, 500), rng) < full).any(axis=0)
            back |= (self.mutation()(space, few, self.guide(space, 500), rng) > few).any(axis=0)
        assert gone[bits].all()
        assert back[bits & ~few.all(axis=0)].all()

    def test_a_missing_entry_of_the_guide_is_named(self) -> None:
        space = self.space()
        for name in self.mutation().needs:
            guide = {key: scores for key, scores in self.guide(space, 4).items() if key != name}
            with pytest.raises(InputError, match=name):
                self.mutation()(
                    space, space.sample(4, np.random.default_rng(0)), guide, np.random.default_rng(0)
                )

    def test_pickles(self) -> None:
        copied = pickle.loads(pickle.dumps(self.mutation()))
        assert (self.mutated(mutation=copied)[2] == self.mutated()[2]).all()
