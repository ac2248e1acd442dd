import numpy as np
import torch
from torch import nn

from operators.repair import fold
from spaces import ChannelSpace


def batches(*shape):
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(64, *shape, generator=generator), None)]


def test_units_that_do_not_vary_are_replaced_by_their_bias_exactly():
    """Their weights are zero, so they give a constant: folded, the compact net computes what the whole one
    did.
    """
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 2))
    with torch.no_grad():
        model[0].weight[:3] = 0
        model[0].bias[:3] = torch.tensor([1.0, 2.0, -1.0])
    space = ChannelSpace(model, torch.randn(2, 5))
    genome = space.base.copy()
    genome[space.slices["0"]][:3] = 0
    inputs = batches(5)[0][0]
    before = model(inputs)
    assert not torch.allclose(space.build(genome)(inputs), before, atol=1e-3)
    fold(model, space.plan, (space.base > genome), batches(5))
    assert torch.allclose(space.build(genome)(inputs), before, atol=1e-5)


def test_convolutions_take_the_mean_over_positions():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3))
    with torch.no_grad():
        model[0].weight[0] = 0
        model[0].bias[0] = 0.7
    space = ChannelSpace(model, torch.randn(2, 1, 8, 8))
    genome = space.base.copy()
    genome[0] = 0
    inputs = batches(1, 8, 8)[0][0]
    before = model(inputs)
    fold(model, space.plan, (space.base > genome), batches(1, 8, 8))
    assert torch.allclose(space.build(genome)(inputs), before, atol=1e-5)


def test_nothing_goes_nothing_changes():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    space = ChannelSpace(model, torch.randn(2, 3))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fold(model, space.plan, np.zeros(space.length, dtype=bool), batches(3))
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
