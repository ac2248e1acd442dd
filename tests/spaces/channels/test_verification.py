"""Verification trusts many groups by few runs, and none that it could not tell from another."""

from itertools import permutations

import pytest
import torch
from torch import Tensor, nn

from spaces import ChannelSpace
from spaces.channels.verification import separating


@pytest.mark.parametrize("n", [2, 3, 5, 8, 13])
def test_of_any_two_there_is_a_run_that_reduces_the_first_alone(n: int) -> None:
    names = [str(i) for i in range(n)]
    runs = [*separating(names)]
    assert all(any(a in run and b not in run for run in runs) for a, b in permutations(names, 2))
    assert len(runs) == 2 * (n - 1).bit_length()


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
    assert len(space.segments) == 40 and runs <= 2 * 6 + 4


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
