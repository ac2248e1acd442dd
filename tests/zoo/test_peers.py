"""What goes wrong with the graphs and indices of others (by their issue numbers), in the patterns that were
reported.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces import ChannelSpace


def space_of(model: nn.Module, *shape: int, **options) -> ChannelSpace:
    return ChannelSpace(model.eval(), torch.randn(2, *shape), **options)


def agrees(space: ChannelSpace, genome: np.ndarray | None = None) -> bool:
    genomes = space.sample(3, np.random.default_rng(0)) if genome is None else genome[None]
    return all(space.difference(g) < 1e-5 for g in genomes)


def without(space: ChannelSpace, group: str, *positions: int) -> np.ndarray:
    genome = space.base.copy()
    genome[space.slices[group]][list(positions)] = 0
    return genome


class Chunks(nn.Module):
    """Torch-Pruning 168 and 393: chunk and split, the parts used in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.head = (
            nn.Conv2d(3, 12, 1),
            nn.Conv2d(6, 8, 1),
            nn.Conv2d(6, 8, 1),
            nn.Conv2d(16, 2, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        first, second = torch.chunk(self.a(x), 2, dim=1)
        return self.head(torch.cat([self.c(second), self.b(first)], 1))


def test_torch_pruning_168_393_indices_behind_chunk_are_those_of_the_part():
    space = space_of(Chunks(), 3, 4, 4)
    kept = space.slice_indices(without(space, "a", 0, 4))
    assert kept["a.weight"][0].tolist() == [1, 2, 3, 5, 7, 8, 9, 11]
    assert kept["b.weight"][1].tolist() == kept["c.weight"][1].tolist() == [1, 2, 3, 5]
    kept = space.slice_indices(without(space, "b", 1))
    assert kept["head.weight"][1].tolist() == [p for p in range(16) if p != 9]
    assert agrees(space)


class Joined(nn.Module):
    """Torch-Pruning 277: a concatenation of concatenations, one part of it twice, flattened into a linear
    layer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 5, 1), nn.Linear(13 * 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        return self.head(torch.cat([torch.cat([a, b], 1), a], 1).flatten(1))


def test_torch_pruning_277_offsets_of_nested_joins():
    space = space_of(Joined(), 3, 2, 2)
    kept = space.slice_indices(without(space, "a", 1))["head.weight"][1]
    assert kept.tolist() == [p for p in range(52) if p // 4 not in (1, 10)]
    assert agrees(space)


class Grouped(nn.Module):
    """Torch-Pruning 397: a grouped convolution behind a join."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.grouped, self.head = (
            nn.Conv2d(3, 4, 1),
            nn.Conv2d(3, 4, 1),
            nn.Conv2d(8, 16, 3, padding=1, groups=4),
            nn.Conv2d(16, 2, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.grouped(torch.cat([self.a(x), self.b(x)], 1))))


def test_torch_pruning_397_a_grouped_convolution_keeps_equal_counts_a_group():
    space = space_of(Grouped(), 3, 4, 4)
    for genome in space.sample(4, np.random.default_rng(1)):
        conv = space.build(genome).grouped
        assert conv.in_channels % conv.groups == conv.out_channels % conv.groups == 0
        assert conv.weight.shape[:2] == (conv.out_channels, conv.in_channels // conv.groups)
    assert agrees(space)


class Deep(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(4, 8), nn.Linear(8, 2)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:  # every layer sees the sum of all before it: paths double with each of them
            x = x + F.relu(layer(x))
        return self.head(x)


def test_torch_pruning_474_525_527_the_graph_of_many_paths_is_built_in_proportion(monkeypatch):
    """2 to the power of 60 paths: walking them never ends; going over the operations once does."""
    monkeypatch.setattr("spaces.channels.space.VERIFY", False)
    seconds = []
    for depth in (15, 60):
        start = time.process_time()
        space = space_of(Deep(depth), 4)
        seconds.append(time.process_time() - start)
        assert len(space.segments) == 1
    assert seconds[1] < 12 * max(seconds[0], 0.2)


class Unknown(nn.Module):
    """NNI 2901 and 5172: an operation without a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.b(torch.fft.rfft(self.a(x), norm="ortho").abs().repeat(1, 2)[:, :8])))


def test_nni_2901_5172_an_unknown_operation_freezes_and_is_named():
    space = space_of(Unknown(), 6)
    frozen = {f.axis: f for f in space.plan.frozen}
    assert [s.name for s in space.segments] == ["b"]
    assert (
        "fft_rfft.default is not known" in frozen["a.weight[0]"].reason
        and "torch.fft.rfft" in frozen["a.weight[0]"].where
    )
    assert agrees(space)


def test_torch_pruning_448_a_limit_of_a_group_holds_for_everything_that_is_built():
    space = space_of(Chunks(), 3, 4, 4, least={"a": 0.5, "b": 0.75})
    genomes = np.concatenate(
        [
            space.sample(50, np.random.default_rng(0)),
            space.repair(np.zeros((1, space.length), dtype=np.uint8)),
        ]
    )
    for genome in genomes[-5:]:
        model = space.build(genome)
        assert model.a.out_channels >= 6 and model.b.out_channels >= 6
    assert (genomes[:, space.slices["a"]].sum(1) >= 3).all()


def test_torch_pruning_33_149_382_what_is_pruned_is_smaller():
    space = space_of(Joined(), 3, 2, 2)
    genome = space.repair(np.zeros((1, space.length), dtype=np.uint8))[0]
    assert sum(p.numel() for p in space.build(genome).parameters()) < 0.3 * sum(
        p.numel() for p in space.model.parameters()
    )


@pytest.mark.parametrize("layers", [1, 2])
def test_recurrent_weights_are_those_that_run(layers: int):
    """A recurrent layer lists its weights a second time; a copy that lists the old ones would run them."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.head = nn.GRU(3, 6, layers, batch_first=True), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.gru(x)[0])

    space = space_of(Net(), 5, 3)
    model = space.build(without(space, "gru", 0, 3))
    assert model.gru._flat_weights[0] is model.gru.weight_ih_l0 and model.gru.hidden_size == 4
    assert agrees(space)
