"""The contract of a mutation that only prunes."""

from __future__ import annotations

import numpy as np

from operators.base import Guide
from operators.mutation.pruning import Pruning
from operators.testing.mutation import MutationContract
from spaces.base import Space


class PruningContract(MutationContract):
    """The contract of mutations, and: bits go off, none comes on, others than one's own stay, and no segment
    falls empty.
    """

    examples = 20
    """Recorded examples of the guide's outputs."""

    def guide(self, space: Space, n: int) -> Guide:
        """The outputs of `n` models, drawn at random, where the mutation needs outputs."""
        scores = {name: table for name, table in super().guide(space, n).items() if name != "outputs"}
        if "outputs" not in self.mutation().needs:
            return scores
        outputs = (
            np.random.default_rng(8)
            .normal(size=(n, self.examples, len(space.unit_layers)))
            .astype(np.float32)
        )
        return {**scores, "outputs": outputs}

    def test_every_keep_bit_can_go_and_come_back(self) -> None:
        """They only go here."""
        space = self.space()
        bits = space.choices == 2
        full = space.repair(np.where(bits, 1, space.sample(500, np.random.default_rng(0))).astype(np.uint8))
        rng, gone = np.random.default_rng(1), np.zeros(space.length, bool)
        for _ in range(8):
            gone |= (self.mutation()(space, full, self.guide(space, 500), rng) < full).any(axis=0)
        assert gone[bits].all()

    def test_nothing_comes_back(self) -> None:
        _, genomes, pruned = self.mutated()
        for _ in range(3):  # down to the last ones, where repair would like to bring something back
            space = self.space()
            again = self.mutation()(space, pruned, self.guide(space, len(pruned)), np.random.default_rng(2))
            assert (again <= pruned).all()
            genomes, pruned = pruned, again
        assert (pruned <= genomes).all()

    def test_other_loci_than_ones_own_stay(self) -> None:
        space = self.space()
        own = np.random.default_rng(3).random(space.length) < 0.5
        genomes = space.sample(200, np.random.default_rng(100))
        guide = {**self.guide(space, 200), "own": own}
        pruned = self.mutation()(space, genomes, guide, np.random.default_rng(0))
        assert (pruned[:, ~own] == genomes[:, ~own]).all()
        assert (pruned[:, own] < genomes[:, own]).any()

    def test_no_segment_becomes_empty_and_what_was_kept_for_it_is_counted(self) -> None:
        space, mutation = self.space(), self.mutation()
        assert isinstance(mutation, Pruning)
        mutation.amount = 1.0
        bits = space.choices == 2
        one = space.repair(np.where(bits, 0, space.sample(100, np.random.default_rng(0))).astype(np.uint8))
        assert (mutation(space, one, self.guide(space, 100), np.random.default_rng(0)) == one).all()
        mutation(space, one, self.guide(space, 100), np.random.default_rng(0))
        kept_by_floor = mutation.kept_by_floor
        mutation.probability = 0.0
        mutation(space, one, self.guide(space, 100), np.random.default_rng(0))
        assert mutation.kept_by_floor == 0 <= kept_by_floor
