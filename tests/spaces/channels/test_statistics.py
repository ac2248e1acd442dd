"""Normalisations written by hand, in any spelling, normalise over what is kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spaces import ChannelSpace
from spaces.channels import space as module

EPS = 1e-6


def float_casts(x: Tensor) -> Tensor:
    h = x.float()
    return (h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + EPS)).to(x.dtype)


def of_squares(x: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    spread = (x * x).mean(-1, keepdim=True) - mean * mean
    return (x - mean) * (spread + EPS) ** -0.5


def of_both(x: Tensor) -> Tensor:
    spread, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    return (x - mean) / torch.sqrt(spread + EPS)


NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "power": lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS),
    "square": lambda x: x / x.square().mean(-1, True).add(EPS).sqrt(),
    "product": lambda x: x / torch.sqrt(torch.mean(x * x, dim=-1, keepdim=True) + EPS),
    "operator": lambda x: x * (torch.mean(x**2, -1).unsqueeze(-1) + EPS).pow(-0.5),
    "reciprocal": lambda x: torch.mul(1 / torch.sqrt((x**2).mean(dim=-1, keepdim=True) + EPS), x),
    "casts": float_casts,
    "absolute": lambda x: x / (x.abs().mean(-1, keepdim=True) + EPS),
    "centred": lambda x: x - x.mean(-1, keepdim=True),
    "layer norm": lambda x: (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + EPS),
    "biased": lambda x: (x - x.mean(-1, True)) * torch.rsqrt(x.var(-1, keepdim=True, unbiased=False) + EPS),
    "mean of squares": of_squares,
    "variance and mean": of_both,
}
OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "gate": lambda x: x * torch.sigmoid(x.mean(-1, keepdim=True)),
    "pooling": lambda x: x.mean(-1, keepdim=True),
    "share": lambda x: x * x.mean(-1, keepdim=True),
    "addition": lambda x: x + x.mean(-1, keepdim=True).sqrt(),
    "maximum": lambda x: x / x.amax(-1, keepdim=True),
    "other channels": lambda x: torch.tanh(x[:, :3]) - x.flip(1)[:, :3].mean(-1, keepdim=True),
}


class Normed(nn.Module):
    def __init__(self, norm: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.LazyLinear(2)
        self.norm = norm
        self(torch.zeros(2, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.first(x)))


@pytest.fixture(autouse=True)
def _unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VERIFY", False)


@pytest.mark.parametrize("name", NORMS)
def test_a_mean_of_channels_that_scales_them_is_one_of_those_kept(name: str) -> None:
    model = Normed(NORMS[name])
    space = ChannelSpace(model, torch.randn(3, 4))
    assert [(s.name, s.size) for s in space.segments] == [("first", 6)]
    genome = np.array([1, 0, 1, 1, 0, 1], dtype=np.uint8)
    assert space.difference(genome, precise=True) < 1e-12
    compact, x = space.build(genome), torch.randn(3, 4)
    kept = model.first(x)[:, genome == 1]
    expected = model.norm(kept) @ model.last.weight[:, genome == 1].T + model.last.bias
    assert torch.allclose(compact(x), expected, atol=1e-5)


@pytest.mark.parametrize("name", OTHERS)
def test_any_other_mean_keeps_its_channels(name: str) -> None:
    with pytest.raises(module.InputError, match=r"over the channels|counts off"):
        ChannelSpace(Normed(OTHERS[name]), torch.randn(3, 4))


class OverImages(nn.Module):
    """ConvNeXt's norm of channels, and one over everything in a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 6, 1), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        mean = y.mean(1, keepdim=True)
        spread = (y - mean).pow(2).mean(1, keepdim=True)
        y = (y - mean) / torch.sqrt(spread + EPS)
        y = y / y.var((1, 2, 3), keepdim=True).add(EPS).sqrt()
        return self.last(y)


def test_means_run_over_channels_of_images_and_over_positions_as_well() -> None:
    space = ChannelSpace(OverImages(), torch.randn(2, 2, 3, 3))
    assert space.difference(np.array([1, 0, 1, 1, 0, 1], dtype=np.uint8), precise=True) < 1e-12
