"""What a space accepts runs in training mode as well, forward and backward."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spaces import ChannelSpace
from spaces.errors import InputError


class Auxiliary(nn.Module):
    """Divides what is hidden in training alone, as `how` says."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.a, self.b, self.c, self.aux = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3), nn.Linear(4, 3)
        self.how, self.parts, self.width = how, 2, 4

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        y = self.c(torch.relu(self.b(h)))
        return y + self.auxiliary(h) if self.training else y

    def auxiliary(self, h: Tensor) -> Tensor:
        if self.how == "number":
            return self.aux(h.view(len(h), 2, 4).mean(1))
        if self.how == "attribute":
            return self.aux(h.view(len(h), self.parts, self.width).mean(1))
        if self.how == "branch":  # no tracer follows it, nor can it be rewritten
            return self.aux(h.mean()[None, None].expand(1, 4)) if h.sum().item() else self.aux(h[:, :4])
        if self.how == "silent":  # half as many channels are twice as many samples
            return self.aux(h.view(-1, 8)[:, :4]).mean(0)
        return self.aux(torch.stack([h[:, :4], h[:, 4:]]).mean(0))


class Divided(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(4, 3)

    def forward(self, h: Tensor) -> Tensor:
        return self.out(h.view(len(h), 2, 4).mean(1))


class Shifted(nn.Module):
    """The first view of eval mode is the second one of training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.aux = nn.Linear(6, 8), nn.Linear(8, 6), nn.Linear(6, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        y = self.aux(h.view(len(h), 2, 4).mean(1)) if self.training else 0
        return y + self.c(torch.relu(self.b(h)).view(len(h), 2, 3).flatten(1))


def reduced(space: ChannelSpace) -> nn.Module:
    return space.build(space.repair((np.arange(space.length) % 3 != 0)[None].astype(np.uint8))[0])


@pytest.mark.parametrize(("how", "groups"), [("number", 2), ("attribute", 2), ("silent", 1), ("pieces", 1)])
def test_a_size_that_only_training_uses_follows_or_is_frozen(how: str, groups: int) -> None:
    torch.manual_seed(0)
    space = ChannelSpace(Auxiliary(how), torch.randn(4, 6))
    assert len(space.segments) == groups
    model, base = reduced(space), space.build(space.base)
    for training in (True, False):
        assert model.train(training)(torch.randn(5, 6)).shape == (5, 3)
        with torch.no_grad():
            assert (
                base.train(training)(x := torch.randn(5, 6)) - space.model.train(training)(x)
            ).abs().max() < 1e-5


class WithHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 8), nn.Linear(8, 3), Divided()

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        return self.b(h) + self.head(h) if self.training else self.b(h)


def test_a_head_that_only_training_calls_is_rewritten() -> None:
    space = ChannelSpace(WithHead(), torch.randn(4, 6))
    assert [(s.name, s.size) for s in space.segments] == [("a", 4)] and space.report()["rewritten"] == [
        "head"
    ]
    reduced(space).train()(torch.randn(5, 6)).sum().backward()


def test_numbers_of_a_call_may_differ_by_mode() -> None:
    torch.manual_seed(0)
    space = ChannelSpace(Shifted(), torch.randn(4, 6))
    assert {segment.name: segment.size for segment in space.segments} == {"a": 4, "b": 3}
    for genome in space.sample(5, np.random.default_rng(0)):
        model = space.build(genome)
        for training in (True, False):
            assert model.train(training)(torch.randn(5, 6)).shape == (5, 3)


class Hidden(nn.Module):
    """The tracer does not see training: it is a Python number that decides."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        if torch.is_grad_enabled() and random.random() < 2:
            h = h + torch.zeros(8)
        return self.head(torch.relu(self.b(h)))


def test_what_cannot_follow_is_frozen_with_its_reason() -> None:
    torch.manual_seed(0)
    space = ChannelSpace(Hidden(), torch.randn(4, 6))
    assert [segment.name for segment in space.segments] == ["b"]
    reason = {frozen.axis: frozen.reason for frozen in space.plan.frozen}["a.weight[0]"]
    assert "does not run in training mode: RuntimeError: The size of tensor a (4) must match" in reason
    reduced(space).train()(torch.randn(4, 6)).sum().backward()


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU()), nn.Linear(8, 3)

    def forward(self, x: Tensor, targets: Tensor | None = None) -> Tensor:
        y = self.head(self.body(x))
        if self.training:
            if targets is None:
                raise ValueError("targets should not be none when in training mode")
            return (y - targets).square().mean()
        return y


def test_a_model_that_needs_targets_in_training_is_told_of_and_taken() -> None:
    space = ChannelSpace(Detector().train(), torch.randn(4, 6))
    assert [segment.name for segment in space.segments] == ["body.0"]
    notes = [note for note in space.report()["notes"] if "not verified" in note]
    assert notes == [
        "training mode is not verified: ValueError: targets should not be none when in training mode"
    ]


def test_the_model_and_the_random_numbers_of_the_user_stay_as_they_were() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2)
    )
    model[0].train(), model[1].eval(), model[2].train()
    model(torch.randn(3, 1, 5, 5)).sum().backward()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients = [p.grad.clone() for p in model.parameters()]
    modes = [module.training for module in model.modules()]
    drawn = [torch.get_rng_state(), random.getstate(), np.random.get_state()]  # noqa: NPY002
    space = ChannelSpace(model, torch.randn(2, 1, 5, 5, generator=torch.Generator().manual_seed(0)))
    assert not space._untrained
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), drawn[0]) and random.getstate() == drawn[1]
    assert (np.random.get_state()[1] == drawn[2][1]).all()  # noqa: NPY002


def test_a_batch_of_one_is_enough() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    space = ChannelSpace(model, torch.randn(1, 6))
    assert len(space.segments) == 1 and not space._untrained


LAYERS = {"mlp": nn.Linear(8, 8), "norm": nn.BatchNorm1d(8, affine=False)}


class Global(nn.Module):
    """Reaches layers that it registers through a global variable."""

    def __init__(self, in_training: bool) -> None:
        super().__init__()
        self.first, self.mlp, self.norm = nn.Linear(6, 8), LAYERS["mlp"], LAYERS["norm"]
        self.last, self.in_training = nn.Linear(8, 2), in_training

    def forward(self, x: Tensor) -> Tensor:
        own = not self.in_training or not self.training
        x = torch.relu(self.first(x))
        if self.in_training:
            x = self.mlp(x) if own else LAYERS["norm"](LAYERS["mlp"](x))
        else:
            x = LAYERS["mlp"](x)
        return self.last(torch.relu(x))


@pytest.mark.parametrize("in_training", [False, True])
def test_a_layer_that_only_a_global_variable_reaches_is_refused_by_name(in_training: bool) -> None:
    torch.manual_seed(0)
    before = {k: v.clone() for k, v in LAYERS["norm"].state_dict().items()}
    with pytest.raises(
        InputError, match=r"model Global: .* (mlp|norm)\.\w+.*; expected that forward reaches"
    ):
        ChannelSpace(Global(in_training), torch.randn(4, 6))
    assert LAYERS["mlp"].weight.grad is None
    assert all(torch.equal(v, before[k]) for k, v in LAYERS["norm"].state_dict().items())
