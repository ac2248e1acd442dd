import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from operators.criteria import Taylor
from operators.testing import CriterionContract
from operators.testing.toys import ToyNet, toy_batches, toy_plan
from spaces.base import Segment
from spaces.channels.plan import SlicePlan, Tap
from spaces.errors import InputError


class TestTaylor(CriterionContract):
    def criterion(self):
        return Taylor()


def plan_of(size, *taps):
    return SlicePlan((Segment("s", size),), (), (), taps, (), (), (), ())


def first_output(outputs, targets):
    return outputs[:, 0]


def test_linear_model_by_hand():
    """With loss = v . W x the gate of channel c changes the loss by v_c (W x)_c exactly."""
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]))
        model[1].weight.copy_(torch.tensor([[2.0, -1.0, 0.0]]))
    inputs = torch.tensor([[1.0, 1.0], [-1.0, 3.0]])
    scores = Taylor().score(
        model, [(inputs, torch.zeros(2))], plan_of(3, Tap("0", 1, np.arange(3))), first_output
    )
    # a = [[1, 2, 2], [-1, 6, 2]], g = [2, -1, 0]: |a g| = [[2, 2, 0], [2, 6, 0]]. Summed over samples first,
    # channel 0 would score 0.
    assert scores["s"].tolist() == [2, 4, 0]


def test_batches_do_not_matter():
    images, labels = (torch.cat(parts) for parts in zip(*toy_batches(), strict=True))
    torch.manual_seed(0)
    model = ToyNet()

    def loss(outputs, targets):
        return cross_entropy(outputs, targets, reduction="none")

    whole = Taylor().score(model, [(images, labels)], toy_plan(), loss)["conv"]
    parts = Taylor().score(model, [(images[:3], labels[:3]), (images[3:], labels[3:])], toy_plan(), loss)[
        "conv"
    ]
    torch.testing.assert_close(whole, parts)


def test_agrees_with_the_derivative_by_a_gate():
    """The reference: a gate multiplied to the tapped output, one sample at a time."""
    torch.manual_seed(0)
    model = ToyNet().double().eval()
    (images, labels), *_ = toy_batches()
    images = images.double()
    expected = torch.zeros(6, dtype=torch.float64)
    for image, label in zip(images, labels, strict=True):
        gate = torch.ones(6, dtype=torch.float64, requires_grad=True)
        hidden = torch.relu(model.norm(model.conv(image[None])) * gate[:, None, None]).mean(dim=(2, 3))
        expected += torch.autograd.grad(cross_entropy(model.head(hidden), label[None]), gate)[0].abs() / len(
            images
        )
    scores = Taylor().score(
        model, [(images, labels)], toy_plan(), lambda o, t: cross_entropy(o, t, reduction="none")
    )
    torch.testing.assert_close(scores["conv"].double(), expected, rtol=1e-5, atol=1e-7)


def test_a_dead_channel_scores_0():
    model = ToyNet()
    with torch.no_grad():
        model.norm.bias.zero_()
        model.norm.bias[2] = -100
    scores = Taylor().score(
        model, toy_batches(), toy_plan(), lambda o, t: cross_entropy(o, t, reduction="none")
    )
    assert scores["conv"][2] == 0
    assert (scores["conv"][[0, 1, 3, 4, 5]] > 0).all()


class Residual(nn.Module):
    """Two producers of the same channels that are summed in place; the second undoes the first on
    channel 0.
    """

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(2))
            self.second.weight.copy_(torch.tensor([[-1.0, 0.0], [0.0, 1.0]]))

    def forward(self, x):
        y = self.first(x)
        y += self.second(x)
        return y.sum(dim=1, keepdim=True)


def test_producers_of_a_sum_go_together_and_may_cancel():
    taps = (Tap("first", 1, np.array([0, 1])), Tap("second", 1, np.array([0, 1])))
    scores = Taylor().score(
        Residual(), [(torch.tensor([[3.0, 5.0]]), torch.zeros(1))], plan_of(2, *taps), first_output
    )
    assert scores["s"].tolist() == [0, 10]


def test_channels_that_share_a_locus_are_one_gate_and_frozen_ones_are_left_out():
    model = nn.Sequential(nn.Linear(1, 4, bias=False), nn.Linear(4, 1, bias=False))
    nn.init.ones_(model[1].weight)
    with torch.no_grad():
        model[0].weight[:, 0] = torch.tensor([1.0, 2.0, -5.0, 7.0])
    plan = plan_of(2, Tap("0", -1, np.array([0, 0, 1, -1])))
    assert Taylor().score(model, [(torch.ones(1, 1), torch.zeros(1))], plan, first_output)["s"].tolist() == [
        3,
        5,
    ]


class Windows(nn.Module):
    """Cuts each sample into rows of their own."""

    def __init__(self, rows):
        super().__init__()
        self.rows, self.inner = rows, nn.Linear(2, 2, bias=False)
        nn.init.eye_(self.inner.weight)

    def forward(self, x):
        return self.inner(x.reshape(self.rows, 2)).reshape(len(x), -1).sum(dim=1, keepdim=True)


def test_rows_of_a_sample_are_summed():
    inputs = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, -7.0, -8.0]])
    plan = plan_of(2, Tap("inner", 1, np.arange(2)))
    assert Taylor().score(Windows(4), [(inputs, torch.zeros(2))], plan, first_output)["s"].tolist() == [3, 4]
    with pytest.raises(InputError, match="'inner' has 4 rows for 3 samples"):
        Taylor().score(Windows(4), [(torch.ones(2, 4), torch.zeros(3))], plan, lambda o, t: o.sum().repeat(3))


def test_several_inputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2, bias=False)
            nn.init.eye_(self.inner.weight)

        def forward(self, a, b):
            return self.inner(a + b).sum(dim=1, keepdim=True)

    batch = ((torch.ones(3, 2), torch.ones(3, 2)), torch.zeros(3))
    assert Taylor().score(Two(), [batch], plan_of(2, Tap("inner", 1, np.arange(2))), first_output)[
        "s"
    ].tolist() == [2, 2]
