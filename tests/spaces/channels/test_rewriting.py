"""Numbers in the code follow where the code is rewritten, and the rewritten model is a model as any other."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search.finish.recipe import Setting, attributes_of, shrink, slices_of
from spaces import ChannelSpace, InputError


class Attention(nn.Module):
    """Two heads of 4; the mask and the flag are arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(6, 24), nn.Linear(8, 6)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, loud: bool = False) -> Tensor:
        q, k, v = self.qkv(x).view(len(x), 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
        if mask is not None:
            scores = scores + mask
        scores = F.dropout(scores.softmax(-1), 0.5, self.training)
        y = self.out((scores @ v).transpose(1, 2).reshape(len(x), 5, 8))
        return 2 * y if loud else y


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attn, self.head = nn.Linear(3, 6), Attention(), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attn(self.embed(x), (x @ x.transpose(1, 2)).unsqueeze(1), loud=True))


@pytest.fixture(scope="module")
def space() -> ChannelSpace:
    torch.manual_seed(0)
    return ChannelSpace(Net().eval(), torch.randn(2, 5, 3))


def smallest(space: ChannelSpace) -> np.ndarray:
    return space.repair(np.zeros((1, space.length), dtype=np.uint8))[0]


def test_all_groups_follow_and_it_is_told(space):
    assert {s.name: s.size for s in space.segments} == {
        "embed": 6,
        "attn.qkv": 2,
        "attn.qkv#2": 4,
        "attn.out": 6,
    }
    assert space.report()["rewritten"] == ["attn"] and not space._refused
    model = space.build(smallest(space))
    assert tuple(model.attn.qkv.weight.shape) == (3, 1) and isinstance(model.attn, Attention)
    assert space.difference(smallest(space)) < 1e-5
    assert not any("size_of" in key for key in model.state_dict())


def test_the_scale_is_that_of_the_full_model(space):
    """One head dimension is left of four: the scale stays half, it does not become one."""
    settings = {s.name: s.value for s in attributes_of(space, smallest(space)) if s.module == "attn"}
    assert settings["given_mask"] == 1 and settings["loud=True"] == 1
    assert [value for name, value in settings.items() if name.startswith("pinned_")] == [4]


def test_training_is_training_and_evaluation_is_not(space):
    torch.manual_seed(0)
    model, x = space.build(space.base), torch.randn(2, 5, 3)
    assert torch.equal(model.eval()(x), model(x))
    assert not torch.equal(model.train()(x), model(x)), "no dropout in training"
    torch.manual_seed(1)
    ours = model(x)
    torch.manual_seed(1)
    with torch.no_grad():
        theirs = copy.deepcopy(space.model).train()(x)
    torch.testing.assert_close(ours.detach(), theirs)


def test_copies_and_pickles_run_their_own_weights(space):
    model, x = space.build(smallest(space)).eval(), torch.randn(2, 5, 3)
    before = model(x).detach()
    for other in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        pickle.loads(pickle.dumps(space)).build(smallest(space)).eval(),
    ):
        assert torch.equal(other(x), before)
        with torch.no_grad():
            other.attn.out.bias.add_(1)
        assert not torch.equal(other(x), before)
    assert torch.equal(model(x), before)


def test_what_was_pruned_can_be_pruned_again(space):
    genome = space.base.copy()
    genome[space.slices["attn.qkv#2"]] = [1, 0, 1, 0]
    once = space.build(genome).eval()
    again = ChannelSpace(once, torch.randn(2, 5, 3))
    assert {s.name: s.size for s in again.segments} == {
        "embed": 6,
        "attn.qkv": 2,
        "attn.qkv#2": 2,
        "attn.out": 6,
    }
    assert again.difference(smallest(again)) < 1e-5


def test_a_recipe_makes_the_code_again_from_the_users_own(space):
    genome = smallest(space)
    model = space.build(genome).eval()
    again = shrink(Net().eval(), slices_of(space, genome), attributes_of(space, genome))
    again.load_state_dict(model.state_dict())
    x = torch.randn(2, 5, 3)
    assert torch.equal(again(x), model(x))
    settings = [
        Setting("attn", "size_of_view_9_1", 2) if s.name.startswith("size_of") else s
        for s in attributes_of(space, genome)
    ]
    with pytest.raises(
        InputError, match=r"Attention.forward cannot be rewritten with .*: it has no call view_9"
    ):
        shrink(Net().eval(), slices_of(space, genome), settings)


def test_another_argument_than_the_examples_is_refused(space):
    model = space.build(space.base)
    with pytest.raises(InputError, match="was rewritten for loud=True, as the example had it"):
        model.attn(torch.randn(2, 5, 6), torch.zeros(2, 1, 5, 5), loud=False)


class Remembers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.a(x).view(-1, 8)
        return self.b(torch.relu(self.seen))


class Constant(Remembers):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x).view(-1, 8)) + torch.arange(8.0).view(1, 8)[:, :1])


class Branch(Remembers):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x).view(-1, 8) if x.shape[1] == 4 else x))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Remembers, "or sets attributes (seen)"),
        (Constant, "it makes tensors of fixed numbers"),
        (Branch, "torch.fx cannot trace it (TraceError"),
    ],
)
def test_code_that_does_more_than_compute_stays_and_the_reason_is_told(kind, reason):
    model = nn.Sequential(kind(), nn.Linear(2, 3), nn.Linear(3, 2))
    before = {*vars(model[0])}
    space = ChannelSpace(model, torch.randn(2, 4))
    row = next(row for row in space.report()["axes"] if row["axis"] == "0.a.weight[0]")
    assert not row["groups"] and reason in row["reason"]
    assert {*vars(model[0])} - {"seen"} == before


class Lenient(Remembers):
    """Takes words that it does not know, as models of Hugging Face do."""

    def forward(self, x: Tensor, **others: object) -> Tensor:
        return self.b(torch.relu(self.a(x).view(-1, 8)))


class Insisting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = Lenient(), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(x, cached=False, style="plain"))


def test_words_that_code_hands_on_are_no_hindrance() -> None:
    torch.manual_seed(0)
    space = ChannelSpace(Insisting(), torch.randn(2, 4))
    assert {s.name: s.size for s in space.segments} == {"inner.a": 8, "inner.b": 2}
    compact = space.build(smallest(space))
    with pytest.raises(InputError, match="was rewritten for cached=False"):
        compact.inner(torch.randn(2, 4), cached=True)


@pytest.mark.parametrize("kind", [Attention, Lenient])
@pytest.mark.parametrize(
    "name", ["x, *[print('ran')], loud=1", "given_x, *[print('ran')]", "size_of_view_1_1; print('ran')"]
)
def test_a_name_in_a_recipe_does_not_become_code(name, kind, capsys):
    model = nn.Sequential(kind())
    with pytest.raises(InputError, match="cannot be rewritten"):
        shrink(model, [], [Setting("0", name, 3)])
    assert "ran" not in capsys.readouterr().out


def test_tracing_leaves_the_file_of_the_model_as_it_was() -> None:
    assert "len" not in globals() and "make" not in globals()
