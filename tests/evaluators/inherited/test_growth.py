"""A network that grew begins as its parent's function, or as it was built."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from evaluators.inherited.growth import grow
from operators.repair import recalibrate
from spaces.models import Perceptron, ResidualNet

IMAGES = torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))
OTHERS = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def convolutional(width, depth, kernel=3, activation=nn.ReLU):
    layers, before = [], 1
    for _ in range(depth):
        layers += [nn.Conv2d(before, width, kernel, padding=kernel // 2), nn.BatchNorm2d(width), activation()]
        before = width
    return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * width, 10))


class Listed(nn.Module):
    """Its names tell what is new; the norms between its layers are not idempotent."""

    def __init__(self, width, depth, normed=False):
        super().__init__()
        self.stem = nn.Linear(64, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norm = nn.LayerNorm(width) if normed else nn.Identity()
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = F.relu(self.stem(x.flatten(1)))
        for layer in self.hidden:
            x = F.relu(layer(x))
        return self.head(self.norm(x))


class Transformer(nn.Module):
    def __init__(self, depth, width=16):
        super().__init__()
        layers = (
            nn.TransformerEncoderLayer(8, 2, width, 0.0, norm_first=True, batch_first=True)
            for _ in range(depth)
        )
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.blocks(x[:, 0]).mean(1))


def pair(make, small, large):
    """Return a parent with weights and statistics that tell of use, and a child as it was built."""
    torch.manual_seed(0)
    parent, child = make(*small), make(*large)
    with torch.no_grad():
        for parameter in parent.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    recalibrate(parent, [(IMAGES, None)])
    return parent.eval(), child.eval()


GROWTHS = [
    (lambda *widths: Perceptron((64, *widths, 10)), (4, 6), (7, 9)),
    (lambda *widths: Perceptron((64, *widths, 10)), (6,), (6, 6, 6)),
    (lambda *widths: Perceptron((64, *widths, 10)), (6,), (8, 8)),
    (convolutional, (4, 2), (7, 2)),
    (convolutional, (4, 2), (4, 4)),
    (convolutional, (4, 1), (6, 2, 5)),
    (lambda *widths: ResidualNet(widths), (4, 6), (6, 9)),
    (lambda blocks: ResidualNet((4, 6), blocks), (1,), (2,)),
    (Listed, (6, 1), (9, 3)),
    (Transformer, (1, 16), (3, 16)),
    (Transformer, (2, 8), (2, 16)),
]


@pytest.mark.parametrize("make, small, large", GROWTHS)
def test_it_computes_what_its_parent_does_and_new_units_can_learn(make, small, large):
    parent, child = pair(make, small, large)
    given = {name: tensor.clone() for name, tensor in parent.state_dict().items()}
    assert grow(child, parent, IMAGES)
    with torch.no_grad():
        torch.testing.assert_close(child(OTHERS), parent(OTHERS), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(tensor, given[name]) for name, tensor in parent.state_dict().items())
    optimiser = torch.optim.SGD(child.parameters(), 0.05)
    before = {name: parameter.clone() for name, parameter in child.named_parameters()}
    for _ in range(3):  # the readers of what is new learn at the first step, what is new from then on
        optimiser.zero_grad()
        child(IMAGES).square().mean().backward()
        optimiser.step()
    for name, parameter in child.named_parameters():
        if parameter.ndim > 1:
            still = (parameter == before[name]).flatten(1).all(1)
            assert still.float().mean() < 0.5, name  # but for units that ReLU keeps off


def test_the_first_gradient_reaches_the_readers_of_new_units():
    parent, child = pair(*GROWTHS[0])
    assert grow(child, parent, IMAGES)
    F.cross_entropy(child(IMAGES), torch.zeros(32, dtype=torch.long)).backward()
    assert child.layers[4].weight.grad[:, 6:].abs().max() > 1e-4 and not child.layers[4].weight[:, 6:].any()


def test_a_deeper_network_with_norms_stays_close_in_training():
    parent, child = pair(convolutional, (4, 2), (4, 3))
    assert grow(child, parent, IMAGES)
    with torch.no_grad():
        torch.testing.assert_close(child.train()(IMAGES), parent.train()(IMAGES), rtol=0.01, atol=0.01)
    assert not any(module._forward_pre_hooks for module in child.modules())


@pytest.mark.parametrize(
    "make, small, large",
    [
        (convolutional, (4, 2, 3, nn.GELU), (4, 3, 3, nn.GELU)),  # changes values a second time
        (convolutional, (4, 2), (3, 3)),  # deeper and narrower
        (Listed, (6, 1, True), (8, 1, True)),  # a norm over more features
        (lambda *widths: Perceptron((64, *widths, 10)), (6, 6), (9,)),
    ],
)
def test_where_it_cannot_be_had_the_child_is_as_it_was_built(make, small, large):
    parent, child = pair(make, small, large)
    built = {name: tensor.clone() for name, tensor in child.state_dict().items()}
    assert not grow(child, parent, IMAGES)
    assert all(torch.equal(tensor, built[name]) for name, tensor in child.state_dict().items())


def test_modes_come_back_as_they_were():
    parent, child = pair(*GROWTHS[3])
    child.train()
    child[1].eval()
    grow(child, parent, IMAGES)
    assert child.training and not child[1].training and not parent.training
