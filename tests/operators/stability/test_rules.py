"""What every rule promises, on random histories."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.stability import (
    EdgeHistory,
    Entropy,
    FixedStop,
    HistogramIntersection,
    Histories,
    NoRemoval,
    RandomRemoval,
    RankStop,
    Rule,
    Stability,
)
from operators.testing import RuleContract
from operators.testing.rule import EPOCHS, OPERATIONS
from spaces.errors import InputError

RULES = [
    Stability(window=2, patience=1, threshold=1.0, rank=False),
    Stability(window=2, patience=2, threshold=0.05),
    Stability(window=2, minimum=2),
    Stability(window=3, threshold="noise"),
    Stability(window=2, patience=1, threshold="walk", stages=[4, 2]),
    FixedStop(5),
    FixedStop(8, keep=3),
    RandomRemoval({epoch: 7 - epoch // 2 for epoch in range(2, 13)}),
    RandomRemoval({4: {"a": 2}, 9: {"b": 1, "c": 3}}),
    RankStop(3),
    HistogramIntersection(interval=2),
    Entropy(0.95),
    NoRemoval(),
]
each = pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)


@each
class TestRules(RuleContract):
    @pytest.fixture(autouse=True)
    def _rule(self, rule):
        self.made = rule

    def rule(self):
        return self.made


@each
@given(seed=st.integers(0, 10**6), epoch=st.integers(1, EPOCHS))
@settings(max_examples=25, deadline=None)
def test_any_search_comes_to_its_end_without_an_edge_falling_empty(rule, seed, epoch):
    """As a supernet does it: what is kept is all that is left, and its history starts anew."""
    rng = np.random.default_rng(seed)
    found = Histories()
    active = {edge: OPERATIONS[: rng.integers(1, 7)] for edge in "abc"}
    for number in range(1, EPOCHS + 1):
        for edge, names in active.items():
            if number > epoch // 2:  # after a warm-up
                found.record(edge, names, rng.dirichlet(np.full(len(names), 5.0)))
        before = dict(active)
        for edge, names in rule.keep(number, EPOCHS, found.edges, rng).items():
            assert set() < set(names) < set(before[edge])
            active[edge] = names
            found.reset(edge, names)
        assert all(
            found.edges[edge].operations == names for edge, names in active.items() if number > epoch // 2
        )
        if number > epoch // 2 and not isinstance(rule, NoRemoval):
            last = [
                len(names) == 1 or (isinstance(rule, Stability) and rule.next_stage(len(names)) is None)
                for names in active.values()
            ]
            assert rule.done(number, EPOCHS, found.edges) == all(last)


def test_done_when_every_edge_has_one_operation():
    one, two = EdgeHistory(("x",), np.ones((0, 1))), EdgeHistory(("x", "y"), np.ones((0, 2)))
    assert FixedStop().done(3, EPOCHS, {"a": one, "b": one})
    assert not FixedStop().done(3, EPOCHS, {"a": one, "b": two})
    assert not NoRemoval().done(3, EPOCHS, {"a": one})
    assert NoRemoval().done(EPOCHS, EPOCHS, {"a": two})


@pytest.mark.parametrize("answer", [(), ("x", "w")])
def test_a_rule_that_keeps_what_is_not_there_or_nothing_is_refused(answer):
    class Mine(Rule):
        def _keep(self, epoch, epochs, edges, rng):
            return {"a": answer}

    edges = {"a": EdgeHistory(("x", "y"), np.array([[0.5, 0.5]]))}
    with pytest.raises(InputError, match=r"rule Mine: edge 'a' keeps .*expected some of x, y"):
        Mine().keep(1, 2, edges, np.random.default_rng(0))


def make(rule, **arguments):
    return lambda: rule(**arguments)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (make(Stability, window=1), "window 1"),
        (make(Stability, patience=0), "patience 0"),
        (make(Stability, minimum=0), "minimum 0"),
        (make(Stability, stages=[3, 5]), r"stages \[3, 5\]"),
        (make(Stability, stages=[]), r"stages \[\]"),
        (make(Stability, threshold=1.5), "threshold 1.5"),
        (make(Stability, threshold="auto"), "threshold auto"),
        (make(Stability, level=1), "level 1"),
        (make(FixedStop, epoch=0), "epoch 0"),
        (make(RandomRemoval, schedule={3: 0}), "3: 0"),
        (make(RandomRemoval, schedule={3: {"a": 0}}), "3: "),
        (make(RankStop, patience=0), "patience 0"),
        (make(HistogramIntersection, interval=0), "interval 0"),
        (make(Entropy, threshold=2), "threshold 2"),
    ],
)
def test_settings_out_of_their_range_are_refused(wrong, text):
    with pytest.raises(InputError, match=f"^rule .*{text}.*expected"):
        wrong()
