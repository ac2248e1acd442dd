"""The contract of a rule that removes operations."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod

import numpy as np

from operators.stability import EdgeHistory, Rule
from operators.testing.toys import global_generators_untouched

OPERATIONS = ("avg_pool", "dil_conv_3", "max_pool", "sep_conv_3", "sep_conv_5", "skip")
EPOCHS = 20


def histories(seed: int, checks: int) -> dict[str, EdgeHistory]:
    """Return three edges whose importances wander, of 1 to 6 operations and 0 to `checks` checks; no two
    values are equal.
    """
    rng, edges = np.random.default_rng(seed), {}
    for edge in "abc":
        count, rows = rng.integers(1, len(OPERATIONS) + 1), rng.integers(0, checks + 1)
        names = tuple(rng.permutation(OPERATIONS)[:count].tolist())
        steps = rng.normal(scale=10 ** rng.uniform(-4, 0), size=(rows, count))
        chances = np.exp(rng.normal(size=count) + steps.cumsum(axis=0))
        edges[edge] = EdgeHistory(names, chances / chances.sum(axis=1, keepdims=True))
    return edges


class RuleContract(ABC):
    """What searches rely on."""

    cases = 60
    """Random histories that each check looks at."""

    @abstractmethod
    def rule(self) -> Rule:
        """Return the rule; equal ones at every call."""

    def kept(
        self, rule: Rule, epoch: int, edges: dict[str, EdgeHistory], seed: int
    ) -> dict[str, tuple[str, ...]]:
        return rule.keep(epoch, EPOCHS, edges, np.random.default_rng(seed))

    def test_what_stays_was_active_and_no_edge_becomes_empty(self) -> None:
        for seed in range(self.cases):
            epoch = 1 + seed % EPOCHS
            edges = histories(seed, epoch)
            for edge, names in self.kept(self.rule(), epoch, edges, seed).items():
                active = edges[edge].operations
                assert 1 <= len(names) < len(active), "an edge that does not change is not named"
                assert [name for name in active if name in names] == list(names), (
                    "what was active, in its old order"
                )
                assert edges[edge].checks > 0

    def test_equal_seeds_give_equal_answers_and_torchs_and_numpys_generators_stay(self) -> None:
        for seed in range(self.cases):
            epoch = 1 + seed % EPOCHS
            edges = histories(seed, epoch)
            with global_generators_untouched():
                one = self.kept(self.rule(), epoch, edges, seed)
            used = self.rule()
            self.kept(used, epoch, histories(seed + 1, epoch), seed)
            assert one == self.kept(used, epoch, edges, seed), (
                "a rule remembers nothing: a search is resumed with a new one"
            )

    def test_permuted_operations_and_edges_give_the_same_names(self) -> None:
        for seed in range(self.cases):
            epoch = 1 + seed % EPOCHS
            edges, turned, rng = histories(seed, epoch), {}, np.random.default_rng(seed + 1)
            for edge in reversed(edges):
                order = rng.permutation(len(edges[edge].operations))
                names = tuple(edges[edge].operations[i] for i in order)
                turned[edge] = EdgeHistory(names, edges[edge].importances[:, order])
            one, other = (self.kept(self.rule(), epoch, some, seed) for some in (edges, turned))
            assert {edge: set(names) for edge, names in one.items()} == {
                edge: set(names) for edge, names in other.items()
            }

    def test_histories_stay_as_they_are(self) -> None:
        edges = histories(0, EPOCHS)
        before = {edge: history.importances.copy() for edge, history in edges.items()}
        self.kept(self.rule(), EPOCHS - 1, edges, 0)
        assert all((edges[edge].importances == rows).all() for edge, rows in before.items())

    def test_before_it_has_seen_enough_nothing_goes(self) -> None:
        rule = self.rule()
        for checks in range(min(rule.needs, EPOCHS)):
            few = {"a": EdgeHistory(OPERATIONS, np.tile([0.9, 0.02, 0.02, 0.02, 0.02, 0.02], (checks, 1)))}
            assert self.kept(rule, EPOCHS - 1, few, 0) == {}

    def test_it_travels_to_a_worker(self) -> None:
        rule, edges = self.rule(), histories(3, EPOCHS)
        assert self.kept(pickle.loads(pickle.dumps(rule)), EPOCHS - 1, edges, 0) == self.kept(
            rule, EPOCHS - 1, edges, 0
        )
