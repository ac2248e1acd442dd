"""The second-order gradient against the exact one, which a small problem can afford."""

import pytest
import torch
from torch import nn

from evaluators.supernet.unrolled import unrolled_gradients

_X, _Y, _V, _Z = (
    torch.linspace(a, b, 24, dtype=torch.float64).reshape(8, 3).sin()
    for a, b in ((0, 3), (1, 7), (2, 9), (-3, 4))
)


def _problem() -> tuple[nn.Parameter, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    w = nn.Parameter(torch.randn(3, 3, dtype=torch.float64, generator=generator))
    a = nn.Parameter(torch.randn(2, dtype=torch.float64, generator=generator))
    return w, a


def _loss(w: torch.Tensor, a: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    shares = a.softmax(0)
    return (shares[0] * torch.tanh(x @ w) + shares[1] * (x @ w).square() - y).square().mean()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_it_is_the_gradient_through_the_step(momentum: float) -> None:
    w, a = _problem()
    old = torch.full_like(w, 0.3)
    rate, decay = 0.2, 0.01
    g = torch.autograd.grad(_loss(w, a, _X, _Y), w, create_graph=True)[0]
    stepped = w - rate * (momentum * old + g + decay * w)
    exact = torch.autograd.grad(_loss(stepped, a, _V, _Z), a)[0]
    before = w.detach().clone()
    found = unrolled_gradients(
        [w],
        [a],
        lambda: _loss(w, a, _X, _Y),
        lambda: _loss(w, a, _V, _Z),
        rate,
        decay,
        [old if momentum else None],
        momentum,
        1e-4,
    )[0]
    first = torch.autograd.grad(_loss(w, a, _V, _Z), a)[0]
    assert torch.allclose(found, exact, rtol=1e-5)
    assert not torch.allclose(first, exact, rtol=1e-2), "the first order would do"
    assert torch.equal(w, before)


def test_weights_that_play_no_part_are_fine() -> None:
    w, a = _problem()
    idle = nn.Parameter(torch.ones(2, dtype=torch.float64))
    with_idle = unrolled_gradients(
        [w, idle], [a], lambda: _loss(w, a, _X, _Y), lambda: _loss(w, a, _V, _Z), 0.1
    )
    without = unrolled_gradients([w], [a], lambda: _loss(w, a, _X, _Y), lambda: _loss(w, a, _V, _Z), 0.1)
    assert torch.allclose(with_idle[0], without[0])
