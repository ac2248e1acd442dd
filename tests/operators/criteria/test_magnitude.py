import numpy as np
import pytest
import torch
from torch import nn

from operators.criteria import Magnitude
from operators.testing import CriterionContract
from operators.testing.toys import ToyNet, toy_plan
from spaces.base import Segment
from spaces.channels.plan import AxisSlice, SlicePlan
from spaces.errors import InputError


class TestMagnitude(CriterionContract):
    def criterion(self):
        return Magnitude()


def plan_of(size, *axes):
    return SlicePlan((Segment("s", size),), axes, (), (), (), (), (), ())


def score(model, plan, p=2.0):
    return Magnitude(p).score(model, [], plan, lambda outputs, targets: outputs)


def test_l2_and_l1_of_filters_by_hand():
    model = ToyNet(2)
    with torch.no_grad():
        model.conv.weight.zero_()
        model.conv.weight[0, 0, 0, :2] = torch.tensor([3.0, -4.0])
        model.conv.weight[1, 1, 2, 2] = -2.0
    assert score(model, toy_plan(2))["conv"].tolist() == [5, 2]
    assert score(model, toy_plan(2), p=1)["conv"].tolist() == [7, 2]


def test_producers_count_together_and_shared_loci_add_up():
    model = nn.ModuleDict({"a": nn.Linear(1, 3, bias=False), "b": nn.Linear(1, 4, bias=False)})
    with torch.no_grad():
        model["a"].weight[:, 0] = torch.tensor([3.0, 0.0, 9.0])
        model["b"].weight[:, 0] = torch.tensor([4.0, 1.0, 2.0, 2.0])
    plan = plan_of(
        2,
        AxisSlice("a.weight", 0, np.array([0, 1, -1]), "out"),
        AxisSlice("b.weight", 0, np.array([0, 1, 1, 1]), "out"),
    )
    assert score(model, plan)["s"].tolist() == [5, 3]


def test_a_segment_without_a_producer_is_scored_by_what_it_slices():
    model = nn.ModuleDict({"head": nn.Linear(2, 2)})
    with torch.no_grad():
        model["head"].weight.copy_(torch.tensor([[3.0, 0.0], [4.0, 1.0]]))
    assert score(model, plan_of(2, AxisSlice("head.weight", 1, np.array([0, 1]), "in")))["s"].tolist() == [
        5,
        1,
    ]


def test_impossible_order():
    with pytest.raises(InputError, match="Magnitude: p"):
        Magnitude(0)
