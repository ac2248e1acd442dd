"""What a rule or a way to help a group cannot cope with freezes by name and ends nothing; long chains do not
recurse.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spaces import ChannelSpace
from spaces.channels import space as module
from spaces.channels.loci import UNFITTING, Loci
from spaces.channels.matching import Calls
from spaces.channels.rules import RULES, rule


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.b(torch.digamma(self.a(x).exp()))))


def test_a_rule_that_fails_freezes_what_it_touches_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VERIFY", False)

    def careless(context: Any, node: Any) -> Any:
        return context.labels(node.args[0])[7]

    rule("digamma")(careless)
    try:
        space = ChannelSpace(Two(), torch.randn(2, 4))
    finally:
        del RULES["digamma"]
    assert [s.name for s in space.segments] == ["b"]
    told = next(f for f in space.plan.frozen if f.axis == "a.weight[0]")
    assert told.reason == "the rule of digamma.default failed (IndexError: tuple index out of range)"
    assert "torch.digamma(self.a(x).exp())" in told.where


class Viewed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.b(self.a(x).view(x.shape[0], 2, 3)))).sum(1)


def test_a_way_to_help_a_group_that_fails_leaves_it_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise AttributeError("'NoneType' object has no attribute 'shape'")

    monkeypatch.setattr(Calls, "rewriting", fails)
    space = ChannelSpace(Viewed(), torch.randn(2, 4))
    assert [s.name for s in space.segments] == ["b"]
    reasons = {f.reason for f in space.plan.frozen if f.axis == "a.weight[0]"}
    assert any("its numbers cannot follow (AttributeError: 'NoneType' object" in r for r in reasons)


class Unit(nn.Module):
    """One half passes, the other is computed; the two are shuffled, as in ShuffleNet (also in training)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.Conv1d(width, 6, 1), nn.Conv1d(6, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        y = torch.cat([left, self.last(torch.relu(self.first(right)))], 1)
        n, c, length = y.shape
        return y.view(n, 2, c // 2, length).transpose(1, 2).reshape(n, c, length)


def test_shuffled_halves_in_a_row_are_pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VERIFY", False)
    net = nn.Sequential(nn.Conv1d(2, 8, 1), *(Unit(4) for _ in range(4)), nn.Conv1d(8, 2, 1))
    space = ChannelSpace(net, torch.randn(2, 2, 3))
    assert [s.name for s in space.segments] == [f"{n}.first" for n in range(1, 5)]
    for genome in space.sample(3, np.random.default_rng(0)):
        assert space.difference(genome, precise=True) < 1e-12


def test_a_product_that_leads_back_to_itself_is_what_else_it_is_made_of() -> None:
    loci = Loci()
    a, b, c = (int(loci.new(2)[0]) for _ in range(3))
    first, second = loci.product([a, b]), loci.product([b, c])
    loci._factors[a] = (second,)
    loci._factors[c] = (first,)
    assert loci.resolve(first) == loci.resolve(second) == (b,)
    loci._factors[b] = (a,)
    assert loci.resolve(first) == () and loci.reason(first) == UNFITTING and loci.reasons(first) == []


def test_a_long_chain_of_products_does_not_recurse() -> None:
    loci = Loci()
    atoms = loci.new(5000)
    last = int(atoms[0])
    for atom in atoms[1:].tolist():
        last = loci.product([last, atom])
    assert len(loci.resolve(last)) == 5000
    loci.freeze(np.array([last]), UNFITTING)
    assert loci.reason(int(atoms[0])) == UNFITTING
