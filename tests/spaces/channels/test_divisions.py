"""Axes that several layers divide: norms and convolutions of other groups, experts, spectral norms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluators.cost.counting import count
from evaluators.cost.planned import PlannedCosts
from spaces import ChannelSpace
from spaces.channels import space as module


@pytest.fixture(autouse=True)
def _unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VERIFY", False)


def agrees(space: ChannelSpace) -> bool:
    genomes = space.sample(3, np.random.default_rng(0))
    assert not genomes.all(axis=1).all()
    return all(space.difference(genome, precise=True) < 1e-10 for genome in genomes)


class Divided(nn.Module):
    def __init__(self, norm: int, conv: int, norm_first: bool) -> None:
        super().__init__()
        self.a, self.c = nn.Conv1d(2, 24, 1), nn.Conv1d(24, 2, 1)
        layers = [nn.GroupNorm(norm, 24), nn.Conv1d(24, 24, 1, groups=conv)]
        self.both = nn.Sequential(*(layers if norm_first else layers[::-1]))

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.both(self.a(x))))


@pytest.mark.parametrize(("norm", "conv"), [(6, 4), (4, 6)])
def test_divisions_that_do_not_fit_share_blocks(norm: int, conv: int) -> None:
    space = ChannelSpace(Divided(norm, conv, True), torch.randn(2, 2, 3))
    sizes = {s.name: s.size for s in space.segments}
    # two runs of 12 channels hold whole groups of both, and within all groups every second place stays
    assert sizes["a"] == 2 and sizes["a.groups"] == 2
    genome = np.ones(space.length, dtype=np.uint8)
    for name in ("a", "a.groups"):
        genome[space.slices[name].start] = 0
    compact = space.build(genome)
    assert compact.a.out_channels == 6 and compact.both[0].num_groups == norm // 2
    assert compact.both[1].groups == conv // 2
    assert space.difference(genome, precise=True) < 1e-12 and agrees(space)


def test_groups_of_a_norm_behind_a_convolution_of_others_share_blocks() -> None:
    assert agrees(ChannelSpace(Divided(6, 4, False), torch.randn(2, 2, 3)))


def test_divisions_without_a_common_block_stay_whole() -> None:
    space = ChannelSpace(Divided(3, 8, True), torch.randn(2, 2, 3))
    assert not any(name.startswith("a") for name in space.slices)
    assert "two divisions of one axis" in " ".join(f.reason for f in space.plan.frozen)


@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
def test_a_spectral_norm_follows(norm: object) -> None:
    layers = [norm(nn.Conv1d(2, 8, 1)), nn.ReLU(), norm(nn.Conv1d(8, 6, 3)), nn.ReLU(), nn.Conv1d(6, 2, 1)]
    space = ChannelSpace(nn.Sequential(*layers), torch.randn(2, 2, 5))
    assert [s.size for s in space.segments] == [8, 6] and agrees(space)
    compact = space.build(space.sample(1, np.random.default_rng(1))[0]).train()
    compact(torch.randn(2, 2, 5)).sum().backward()
    assert all(p.grad is not None for p in compact.parameters())


@torch.library.custom_op("secateur_tests::grouped_mm_fallback", mutates_args=())
def grouped(rows: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """As transformers multiplies the rows of each expert."""
    starts = [0, *ends.tolist()]
    return torch.cat([rows[a:b] @ w for a, b, w in zip(starts, starts[1:], weight, strict=False)])


@grouped.register_fake
def _(rows: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0], weight.shape[2])


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.last = nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(8, 2)
        self.up, self.down = nn.Parameter(torch.randn(3, 24, 8) / 4), nn.Parameter(torch.randn(3, 8, 12) / 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        share, chosen = self.gate(h).softmax(-1).max(-1)
        order = chosen.argsort()
        ends = torch.histc(chosen.float(), 3, 0, 2).cumsum(0).to(torch.int32)
        gate, y = grouped(h[order], self.up.transpose(1, 2), ends).chunk(2, -1)
        y = grouped(F.silu(gate) * y, self.down.transpose(1, 2), ends) * share[order].unsqueeze(-1)
        return self.last(h + y[order.argsort()])


def test_experts_keep_the_same_places_in_multiples_that_their_product_can_take() -> None:
    space = ChannelSpace(Experts(), torch.randn(5, 4))
    assert {s.name: s.size for s in space.segments} == {"first": 8, "up": 12}
    assert dict(space.plan.steps) == {"first": 4, "up": 4}
    genome = space.repair(np.array([[1, 1, 1, 0, 0, 0, 0, 0, *[1] * 7, *[0] * 5]], dtype=np.uint8))[0]
    compact = space.build(genome)
    assert compact.up.shape == (3, 16, 4) and compact.down.shape == (3, 4, 8) and agrees(space)
    assert compact(torch.randn(5, 4)).shape == (5, 2)


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 8, 12))

    def forward(self, x: Tensor) -> Tensor:
        return F.grouped_mm(x[0], self.weight, offs=torch.tensor([2, 6], dtype=torch.int32))


def test_products_of_groups_are_counted() -> None:
    assert count(Grouped(), (torch.randn(1, 6, 8),))["macs"] == 6 * 8 * 12
    space = ChannelSpace(Experts(), torch.randn(5, 4))
    macs = PlannedCosts(space.plan)(space.base[None])["macs"][0]
    assert macs == 4 * 8 + 8 * 3 + 8 * 24 + 12 * 8 + 8 * 2
