"""Groups whose number an attribute holds become one; what was found for a group serves others of its kind."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces import ChannelSpace
from spaces.channels.remembered import VARIABLE


class Attend(nn.Module):
    """Heads as transformers cuts them: torch.fx cannot trace it, since it does not know how many axes there
    are; places of queries and keys are a group, those of values another, and an attribute counts both.
    """

    def __init__(self) -> None:
        super().__init__()
        self.head_dim, self.scale = 4, 0.5
        self.q, self.k, self.v, self.out = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:-1], -1, self.head_dim)
        q, k, v = (layer(x).view(shape).transpose(1, 2) for layer in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return x + self.out(y.transpose(1, 2).reshape(*x.shape[:-1], -1))


class Counted(nn.Module):
    """A width in the code, which an attribute holds."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 6
        self.a, self.b = nn.Linear(8, 6), nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(torch.tanh(self.a(x)).view(len(x), -1, self.width))


class Written(Counted):
    """A width that nothing but the code holds, and code that cannot be rewritten."""

    def forward(self, x: Tensor, *others: Any) -> Tensor:
        return x + self.b(torch.tanh(self.a(x)).view(len(x), -1, 2 * 3))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list with one entry for every smaller model that is run to verify."""
    found: list[int] = []
    whole = ChannelSpace.difference
    monkeypatch.setattr(ChannelSpace, "difference", lambda *a, **k: (found.append(1), whole(*a, **k))[1])
    return found


def space_of(*blocks: nn.Module) -> ChannelSpace:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for parameter in nn.ModuleList(blocks).parameters():
            nn.init.normal_(parameter, std=0.3)
        return ChannelSpace(nn.Sequential(*blocks).eval(), torch.randn(2, 5, 8))


def test_groups_whose_number_an_attribute_holds_become_one(
    runs: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    space = space_of(Attend(), Attend(), Attend())
    sizes = {segment.name: segment.size for segment in space.segments}
    assert sizes == {f"{n}.q.{tag}": size for n in range(3) for tag, size in (("heads", 2), ("head_dim", 4))}
    assert len(runs) < 16
    genome = space.base.copy()
    genome[space.slices["1.q.head_dim"]] = [0, 1, 0, 1]
    small = space.build(genome)
    assert small[1].head_dim == 2 and small[1].v.weight.shape == (4, 8) and small[2].head_dim == 4
    assert space.difference(genome) < 1e-5
    verified = len(runs)
    found = space_of(Attend(), Attend(), Attend())  # in the cache
    assert found.fingerprint == space.fingerprint and len(runs) == verified
    assert pickle.loads(pickle.dumps(space)).report() == space.report()


def test_what_helped_the_first_of_a_kind_helps_the_others(runs: list[int]) -> None:
    space = space_of(*(Counted() for _ in range(8)))
    assert len(space.segments) == 8 and len(space.report()["attributes"]) == 8 and len(runs) < 14
    assert space.difference(space.sample(1, np.random.default_rng(0))[0]) < 1e-5


def test_after_two_of_a_kind_the_same_code_is_not_tried_again(runs: list[int]) -> None:
    space = space_of(nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 8)), *(Written() for _ in range(8)))
    assert space._refused["2.a"].startswith("reduced on its own the model does not run")
    assert space._refused["8.a"] == f"{space._refused['1.a']}; the code of 1.a is the same"
    assert {segment.name for segment in space.segments} == {"0.0"} and len(runs) < 10


class Odd(Counted):
    """One of a kind that does something else with the same number."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y * self.a.weight.shape[0] if self.odd else y


@pytest.mark.parametrize("odd", [0, 4])
def test_one_that_is_other_than_the_first_of_its_kind_is_found(odd: int) -> None:
    blocks = [Odd() for _ in range(6)]
    for number, block in enumerate(blocks):
        block.odd = number == odd
    names = {segment.name for segment in space_of(*blocks).segments}
    assert names == {f"{n}.a" for n in range(6) if n != odd}
