"""The core promise: a compact model is real, smaller, its own, and equals the masked full model."""

import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spaces import ChannelSpace, InputError
from spaces.models import Perceptron, ResidualNet
from spaces.testing import SpaceContract


class Depthwise(nn.Module):
    """Depthwise convolution, layer scale, concat of two branches, flatten between convolution and linear."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, groups=16, padding=1, stride=2)
        self.bn = nn.BatchNorm2d(16)
        self.b = nn.Conv2d(16, 24, 1)
        self.scale = nn.Parameter(torch.randn(24, 1, 1))
        self.c = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.hidden = nn.Linear(32 * 16, 20)
        self.head = nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(F.relu6(self.bn(self.depthwise(self.a(x))))) * self.scale
        z = torch.cat([y, torch.sigmoid(self.c(x))], 1)
        return self.head(F.relu(self.hidden(z.flatten(1))))


class Gated(nn.Module):
    """Squeeze and excite, PReLU, transposed convolution, global mean, a shared convolution, a training-only
    head.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.act = nn.PReLU(12)
        self.shared = nn.Conv2d(12, 12, 3, padding=1)
        self.squeeze = nn.Linear(12, 6)
        self.excite = nn.Linear(6, 12)
        self.up = nn.ConvTranspose2d(12, 10, 2, stride=2)
        self.auxiliary = nn.Linear(12, 4)
        self.head = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        x = self.shared(self.shared(x)) + x
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3))))))
        x = x * gate[:, :, None, None]
        extra = self.auxiliary(x.mean((2, 3))) if self.training else 0
        return self.head(self.up(x).mean((2, 3))) + extra


MODELS = {
    "residual": (lambda: ResidualNet((8, 16)), (1, 8, 8)),
    "perceptron": (lambda: Perceptron((16, 12, 8, 3)), (16,)),
    "depthwise": (Depthwise, (3, 8, 8)),
    "gated": (Gated, (3, 6, 6)),
}


def space_of(name: str, **options) -> ChannelSpace:
    make, shape = MODELS[name]
    torch.manual_seed(0)
    model = make()
    for module in model.modules():  # statistics and biases that are not zero, so that a forgotten one shows
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.bias)
    return ChannelSpace(model.eval(), torch.randn(2, *shape), **options)


@pytest.fixture(scope="module")
def spaces() -> dict[str, ChannelSpace]:
    return {name: space_of(name) for name in MODELS}


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), batch=st.integers(1, 5))
def test_a_compact_model_equals_the_masked_full_model(spaces, name, seed, batch):
    space = spaces[name]
    genome = space.sample(1, np.random.default_rng(seed))[0]
    inputs = torch.randn(batch, *MODELS[name][1], generator=torch.Generator().manual_seed(seed))
    assert space.difference(genome, (inputs,)) < 1e-5


def test_the_reference_itself_equals_zeroed_weights():
    """An answer known by hand: a removed channel of conv1 is one whose BatchNorm scale and shift are zero."""
    space = space_of("residual")
    genome = space.base.copy()
    genome[space.slices["blocks.0.conv1"]][[1, 4, 5]] = 0
    zeroed = pickle.loads(pickle.dumps(space.model))
    with torch.no_grad():
        zeroed.blocks[0].bn1.weight[[1, 4, 5]] = 0
        zeroed.blocks[0].bn1.bias[[1, 4, 5]] = 0
        inputs = torch.randn(3, 1, 8, 8)
        assert torch.allclose(space.reference(genome)(inputs), zeroed(inputs), atol=1e-6)
        assert torch.allclose(space.build(genome)(inputs), zeroed(inputs), atol=1e-6)


def test_it_is_physically_smaller(spaces):
    space = spaces["residual"]
    genome = space.base.copy()
    genome[space.slices["blocks.0.conv1"]][2:] = 0
    block = space.build(genome).blocks[0]
    assert block.conv1.weight.shape == (2, 8, 3, 3) and block.conv1.out_channels == 2
    assert block.bn1.num_features == 2 and block.bn1.running_mean.shape == (2,)
    assert block.conv2.weight.shape == (8, 2, 3, 3) and block.conv2.in_channels == 2


def test_depthwise_and_transposed_attributes_follow(spaces):
    space = spaces["depthwise"]
    genome = space.base.copy()
    genome[space.slices["a"]][3:] = 0
    model = space.build(genome)
    assert (model.depthwise.groups, model.depthwise.in_channels, model.depthwise.out_channels) == (3, 3, 3)
    gated = spaces["gated"]
    genome = gated.base.copy()
    genome[gated.slices["stem"]][5:] = 0
    model = gated.build(genome)
    assert model.up.weight.shape[0] == model.up.in_channels == 5 and model.act.num_parameters == 5


def test_groups_are_coupled_as_they_must_be(spaces):
    groups = {g.name: set(g.members) for g in spaces["residual"].plan.groups}
    assert list(groups) == ["stem.0", "blocks.0.conv1", "blocks.1.conv1", "blocks.1.conv2"]
    assert {
        "stem.0.weight[0]",
        "blocks.0.conv2.weight[0]",
        "blocks.1.conv1.weight[1]",
        "blocks.1.shortcut.0.weight[1]",
    } <= groups["stem.0"]
    assert {"blocks.1.conv2.weight[0]", "blocks.1.shortcut.0.weight[0]", "head.weight[1]"} <= groups[
        "blocks.1.conv2"
    ]
    assert {"stem.weight[0]", "excite.weight[0]", "auxiliary.weight[1]", "up.weight[0]"} <= {
        m for g in spaces["gated"].plan.groups if g.name == "stem" for m in g.members
    }


def test_training_a_candidate_leaves_the_base_model_bit_equal():
    space = space_of("residual")
    before = {k: v.clone() for k, v in space.model.state_dict().items()}
    model = space.build(space.sample(1, np.random.default_rng(0))[0]).train()
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(3):
        model(torch.randn(4, 1, 8, 8)).square().mean().backward()
        optimiser.step()
    assert all(p.grad is not None for p in model.parameters())
    assert all(p.grad is None for p in space.model.parameters())
    assert all(torch.equal(before[k], v) for k, v in space.model.state_dict().items())


def test_the_tuned_weights_scattered_back_give_the_same_output():
    space = space_of("residual")
    genome = space.sample(1, np.random.default_rng(1))[0]
    model = space.build(genome).train()
    optimiser = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(3):
        model(torch.randn(8, 1, 8, 8)).square().mean().backward()
        optimiser.step()
    assert space.difference(genome, compact=model) < 1e-5
    assert space.difference(genome, compact=space.build(genome)) < 1e-5
    with torch.no_grad():
        model.head.weight.add_(1)
    assert space.difference(genome, compact=model) < 1e-5, (
        "the reference must take the tuned weights, not the base model's"
    )


def test_hooks_lists_and_tied_parameters_belong_to_the_clone():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 8)
            self.b = nn.Linear(8, 8)
            self.c = nn.Linear(8, 8)
            self.c.weight = self.b.weight
            self.order = [self.a]
            self.head = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.order:
                x = F.relu(layer(x))
            return self.head(F.relu(self.c(F.relu(self.b(x)))))

    space = ChannelSpace(Tied(), torch.randn(2, 6))
    genome = space.repair(np.zeros((1, space.length), dtype=np.uint8))[0]
    clone = space.build(genome)
    assert clone.c.weight is clone.b.weight and clone.order[0] is clone.a and clone.a is not space.model.a
    clone.a.register_forward_hook(lambda *_: None)
    assert not space.model.a._forward_hooks
    assert space.difference(genome) < 1e-5


def test_what_cannot_be_known_is_frozen_and_named():
    class Stubborn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.d = (
                nn.Linear(8, 16),
                nn.Linear(16, 16),
                nn.Linear(16, 12),
                nn.Linear(12, 3),
            )

        def forward(self, x: Tensor) -> Tensor:
            x = torch.cumsum(self.a(x), 1)
            x = self.b(x).view(-1, 16) if x.ndim == 2 else x  # a branch that no rewriting sees through
            return self.d(F.relu(self.c(x)))

    space = ChannelSpace(Stubborn(), torch.randn(2, 8))
    frozen = {f.axis: f for f in space.plan.frozen}
    assert [s.name for s in space.segments] == ["c"]
    assert (
        "cumsum" in frozen["a.weight[0]"].reason
        and "torch.cumsum(self.a(x), 1)" in frozen["a.weight[0]"].where
    )
    assert "differs" in frozen["b.weight[0]"].reason or "does not run" in frozen["b.weight[0]"].reason
    assert "its code cannot be rewritten: the model: torch.fx cannot trace it" in frozen["b.weight[0]"].reason
    assert frozen["d.weight[0]"].reason == "an output of the model"
    assert space.difference(space.repair(np.zeros((1, space.length), np.uint8))[0]) < 1e-5


class TestResidualSpace(SpaceContract):
    def space(self) -> ChannelSpace:
        return space_of("residual")

    def inputs(self) -> tuple[Tensor, ...]:
        return (torch.randn(3, 1, 8, 8),)


class TestRoundedSpace(SpaceContract):
    def space(self) -> ChannelSpace:
        return space_of("perceptron", round_to=4)


def test_a_user_may_freeze_by_name():
    space = space_of("residual", freeze=("blocks.1.*",))
    assert [s.name for s in space.segments] == ["stem.0", "blocks.0.conv1"]
    with pytest.raises(InputError, match=r"'nosuch' matches no layer; there are stem\.0"):
        space_of("residual", freeze=("nosuch",))


def test_the_fingerprint_is_of_the_meaning_not_of_the_weights():
    space, other = space_of("residual"), ResidualNet((8, 16))
    other.requires_grad_(False).train()
    assert ChannelSpace(other, torch.randn(2, 1, 8, 8)).fingerprint == space.fingerprint
    assert space_of("residual", round_to=4).fingerprint != space.fingerprint
    assert other.training


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1))
def test_repair_keeps_multiples_and_a_minimum(seed, share):
    space = _rounded()
    genomes = (np.random.default_rng(seed).random((8, space.length)) < share).astype(np.uint8)
    repaired = space.repair(genomes)
    for segment, part in zip(space.segments, space.slices.values(), strict=True):
        kept = repaired[:, part].sum(axis=1)
        assert ((kept % 3 == 0) | (kept == segment.size)).all() and (kept >= min(5, segment.size)).all()
        moved = (repaired[:, part] != genomes[:, part]).sum(axis=1)
        assert (moved == np.abs(kept.astype(int) - genomes[:, part].sum(axis=1))).all(), (
            "no more flips than the count needs"
        )
    assert (space.repair(repaired) == repaired).all()


_ROUNDED: list[ChannelSpace] = []


def _rounded() -> ChannelSpace:
    if not _ROUNDED:
        _ROUNDED.append(space_of("residual", round_to=3, min_keep=5))
    return _ROUNDED[0]


def test_widths_that_a_runtime_likes_are_taken_where_they_are_left_to_it():
    space, limited = space_of("perceptron"), space_of("perceptron", most={"*": 0.3})
    names = [segment.name for segment in space.segments]
    assert space.settle(lambda: dict.fromkeys(names, 4)) == dict.fromkeys(names, 4)
    assert space.fingerprint == space_of("perceptron", round_to={"*": 4}).fingerprint
    kept = space.sample(20, np.random.default_rng(0))[:, space.slices[names[0]]].sum(axis=1)
    assert not (kept % 4).any()
    size = space.segments[0].size
    assert names[0] not in limited.settle(lambda: {names[0]: size // 2})  # a third is less than that
    assert space.settle(dict) == {} and space.fingerprint == space_of("perceptron", round_to=1).fingerprint
    assert space_of("perceptron", round_to=2).settle(lambda: 1 / 0) is None  # it is not asked for


def test_it_travels_to_workers_and_still_verifies(spaces):
    space = pickle.loads(pickle.dumps(spaces["residual"]))
    genome = space.sample(1, np.random.default_rng(3))[0]
    assert space.fingerprint == spaces["residual"].fingerprint
    assert space.difference(genome) < 1e-5


def test_operations_are_those_of_the_full_model():
    space = space_of("perceptron")
    assert {o.name: o.macs for o in space.plan.operations} == {
        "layers.0.weight": 16 * 12,
        "layers.2.weight": 12 * 8,
        "layers.4.weight": 8 * 3,
    }
    residual = space_of("residual")
    assert {o.name: o.macs for o in residual.plan.operations}["stem.0.weight"] == 8 * 8 * 8 * 9


def test_a_model_that_cannot_be_traced_names_the_line():
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            if x.sum() > 0:
                return self.a(x)
            return x

    with pytest.raises(
        InputError,
        match=r"Branching: torch.export cannot trace it at test_channel_space.py:\d+: if x.sum\(\) > 0",
    ) as error:
        ChannelSpace(Branching(), torch.randn(2, 4))
    assert "\n" not in str(error.value)


def test_nothing_prunable_is_an_error():
    with pytest.raises(InputError, match="nothing can be pruned"):
        ChannelSpace(nn.Linear(4, 3), torch.randn(2, 4))
