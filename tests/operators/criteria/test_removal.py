import numpy as np
import torch
from torch import nn

from operators.criteria import removal_losses
from operators.repair import fold
from spaces import ChannelSpace


def squared(outputs, targets):
    return (outputs - targets).square().flatten(1).mean(1)


def network(*layers):
    torch.manual_seed(0)
    return nn.Sequential(*layers)


def batches(model, *shape, n=60):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(n, *shape, generator=generator)
    with torch.no_grad():
        targets = model(inputs) + torch.randn(model(inputs).shape, generator=generator)
    return [(inputs[:40], targets[:40]), (inputs[40:], targets[40:])]


def test_the_rise_is_that_of_the_folded_compact_model():
    """One channel after another: out of the model, its mean in the biases, run; both in a perceptron and in a
    convolutional net.
    """
    for layers, shape in (
        ([nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3)], (5,)),
        (
            [
                nn.Conv2d(1, 4, 3),
                nn.ReLU(),
                nn.Conv2d(4, 3, 3),
                nn.ReLU(),
                nn.Flatten(1),
                nn.Linear(3 * 16, 2),
            ],
            (1, 8, 8),
        ),
    ):
        model = network(*layers)
        space, data = ChannelSpace(model, torch.randn(2, *shape)), batches(model, *shape)
        rises = removal_losses(model, data, space.plan, squared, np.ones(space.length, dtype=bool))
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}

        def loss(genome, model=model, space=space, data=data):
            compact = space.build(genome)
            with torch.no_grad():
                return float(torch.cat([squared(compact(x), y) for x, y in data]).mean())

        before = loss(space.base)
        for locus in np.flatnonzero(np.isfinite(rises)):
            genome = space.base.copy()
            genome[locus] = 0
            fold(model, space.plan, space.base > genome, data)
            assert abs(loss(genome) - before - rises[locus]) < 1e-5
            model.load_state_dict(state)
        assert np.isfinite(rises).sum() > 5


def test_only_what_is_asked_for_is_tried_and_the_model_stays():
    model = network(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)).train()
    space, asked = ChannelSpace(model, torch.randn(2, 5)), np.arange(6) < 2
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rises = removal_losses(model, batches(model, 5), space.plan, squared, asked)
    assert (np.isfinite(rises) == asked).all()
    assert model.training and all(
        torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items()
    )
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_what_somebody_else_reads_is_not_known():
    """A transposed convolution is none of the readers that folding knows."""
    model = network(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 2, 3))
    space = ChannelSpace(model, torch.randn(2, 1, 8, 8))
    rises = removal_losses(
        model, batches(model, 1, 8, 8), space.plan, squared, np.ones(space.length, dtype=bool)
    )
    assert space.length == 4 and np.isnan(rises).all()
