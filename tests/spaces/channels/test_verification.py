"""Verification trusts many groups by few runs, and none that it could not tell from another."""

from itertools import permutations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spaces import ChannelSpace
from spaces.channels.analysis import Analysis
from spaces.channels.doubled import Doubled
from spaces.channels.verification import separating


@pytest.mark.parametrize("n", [2, 3, 5, 8, 13])
def test_of_any_two_there_is_a_run_that_reduces_the_first_alone(n: int) -> None:
    names = [str(i) for i in range(n)]
    runs = [*separating(names)]
    assert all(any(a in run and b not in run for run in runs) for a, b in permutations(names, 2))
    assert len(runs) <= 2 + n.bit_length()


class Chain(nn.Module):
    """Layers after each other; what `stubborn` ones give is scaled by their width, which no rule sees."""

    def __init__(self, layers: int, stubborn: tuple[int, ...] = (), gain: float = 1.5) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(layers))
        self.stubborn = stubborn
        for layer in self.layers:  # so that the first ones still matter to the output
            nn.init.orthogonal_(layer.weight, gain)

    def forward(self, x: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            x = torch.tanh(layer(x))
            if number in self.stubborn:
                x = x * x.shape[1]
        return x


def runs_of(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> tuple[ChannelSpace, int]:
    count = 0
    whole = ChannelSpace.difference

    def counted(*args, **kwargs):
        nonlocal count
        count += 1
        return whole(*args, **kwargs)

    monkeypatch.setattr(ChannelSpace, "difference", counted)
    return ChannelSpace(model.eval(), torch.randn(3, 6)), count


def test_runs_grow_with_the_logarithm_of_the_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    space, runs = runs_of(Chain(41), monkeypatch)
    assert len(space.segments) == 40 and runs <= 8 + 4


@pytest.mark.parametrize("gain", [1.5, 0.75])
def test_those_that_differ_are_found_among_many(gain: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where half of every layer is gone, little of the first ones comes through (gain .75: less than a group
    is trusted for).
    """
    torch.manual_seed(0)
    space, runs = runs_of(Chain(41, (7, 30), gain), monkeypatch)
    names = {segment.name for segment in space.segments}
    assert names == {f"layers.{n}" for n in range(40)} - {"layers.7", "layers.30"} and runs < 80
    reasons = {frozen.axis: frozen.reason for frozen in space.plan.frozen}
    assert "differs from the masked model" in reasons["layers.7.weight[0]"]


def test_plans_do_not_grow_with_the_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attributes that are tried change nothing else of a plan, and a group is run a few times at most."""
    plans, whole = [], Analysis.plan

    def planned(*args, **kwargs):
        plans.append(whole(*args, **kwargs))
        return plans[-1]

    monkeypatch.setattr(Analysis, "plan", planned)
    groups = 24
    space, runs = runs_of(Chain(groups + 1, tuple(range(0, groups, 2))), monkeypatch)
    assert len(space.segments) == groups / 2 and len(plans) <= 4
    assert runs <= groups + 2 * 5 + 12


class Repeated(nn.Module):
    """Blocks of the same two layers, of which one disagrees."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"good": nn.Linear(6, 6), "bad": nn.Linear(6, 6)}) for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = torch.tanh(block["bad"](torch.tanh(block["good"](x)))) * block["bad"].weight.shape[0]
        return x


def test_those_of_a_kind_that_agrees_are_trusted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = 16
    space, runs = runs_of(Repeated(blocks), monkeypatch)
    assert {segment.name for segment in space.segments} == {f"blocks.{n}.good" for n in range(blocks)}
    # the first of the good ones alone, the others by the logarithm of their number
    assert runs <= blocks + 2 * 4 + 8


class Renormed(nn.Module):
    """An embedding that writes to its weights while it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 6, max_norm=0.5)
        self.layer, self.head = nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.relu(self.layer(self.embedding(ids))))


@pytest.mark.parametrize(("make", "lends"), [(lambda: Chain(3), True), (Renormed, False)])
def test_what_stays_whole_is_lent_unless_the_model_writes_there(make, lends: bool) -> None:
    model = make().eval()
    example = torch.arange(4).reshape(2, 2) if isinstance(model, Renormed) else torch.randn(2, 6)
    space, doubled = ChannelSpace(model, example), Doubled(model)
    before = {name: tensor.clone() for name, tensor in doubled.tensors.items()}
    compacts = []

    def build(base: nn.Module, lent: bool) -> nn.Module:
        compacts.append(space._slicer.build(base, space.base, lent))
        return compacts[-1]

    (a,), b = doubled.outputs(
        build, lambda state, lent: space._masked(space.base, state, lent), (example,), (1,)
    )
    assert torch.allclose(a, b) and a.dtype == torch.float64 and doubled.lends == lends
    assert all(torch.equal(before[name], tensor) for name, tensor in doubled.tensors.items())
    pairs = zip(compacts[-1].parameters(), doubled.model.parameters(), strict=True)
    assert all((p.data_ptr() == q.data_ptr()) == lends for p, q in pairs)


class Together(Chain):
    """Two layers that are wrong where both are smaller."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = (self.layers[number].weight.shape[0] for number in self.stubborn)
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x if 6 in (a, b) else 2 * x


def test_of_groups_that_are_wrong_together_one_is_found_by_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    space, runs = runs_of(Together(25, (5, 20)), monkeypatch)
    assert {f"layers.{n}" for n in range(24)} - {segment.name for segment in space.segments} == {"layers.20"}
    assert space._refused["layers.20"].startswith("reduced together with others it differs")
    assert runs < 60


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_copy_in_double_precision_is_the_only_one_and_its_own(dtype: torch.dtype) -> None:
    model = Chain(2).to(dtype)
    doubled = Doubled(model)
    pairs = [*zip(doubled.model.parameters(), model.parameters(), strict=True)]
    assert all(p.dtype == torch.float64 and p.data_ptr() != q.data_ptr() for p, q in pairs)
    with torch.no_grad():
        for p, q in pairs:
            before = q.clone()
            p.add_(1)
            assert torch.equal(q, before) and q.dtype == dtype


class GroupedQueries(nn.Module):
    """Reads how many queries share a key where it is traced or has a mask, as in transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.queries, self.keys, self.repeats = nn.Linear(12, 24), nn.Linear(12, 8), 3
        self.out = nn.Linear(24, 5)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        queries, keys = (
            layer(x).unflatten(-1, (-1, 4)).transpose(1, 2) for layer in (self.queries, self.keys)
        )
        shared = mask is None and not torch.compiler.is_exporting()
        if not shared:
            batch, heads, length, width = keys.shape
            keys = keys[:, :, None].expand(batch, heads, self.repeats, length, width)
            keys = keys.reshape(batch, heads * self.repeats, length, width)
        attended = F.scaled_dot_product_attention(queries, keys, keys, mask, enable_gqa=shared)
        return self.out(attended.transpose(1, 2).flatten(2))


def test_numbers_follow_that_only_traced_code_reads():
    torch.manual_seed(0)
    model, x = GroupedQueries().eval(), torch.randn(2, 7, 12)
    space = ChannelSpace(model, (x,))
    repeats = next(part for part in space.slices.values() if part.stop - part.start == 3)
    genome = space.base.copy()
    genome[repeats.start] = 0
    compact = space.build(genome)
    assert compact.repeats == 2 and model.repeats == 3
    assert torch.allclose(compact(x, torch.ones(7, 7).bool()), space.reference(genome)(x), atol=1e-5)
    torch.export.export(compact, (x,))
