"""The attention that stands in for torch's computes what torch's does, and leaves the user's
model as it was.
"""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spaces import ChannelSpace
from spaces.channels.attention import Attention, plain

MASKS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "weights of every head": {"average_attn_weights": False},
    "no weights": {"need_weights": False},
    "causal": {
        "need_weights": False,
        "is_causal": True,
        "attn_mask": torch.ones(5, 7, dtype=torch.bool).triu(1),
    },
    "causal with weights": {"is_causal": True, "attn_mask": torch.ones(5, 7, dtype=torch.bool).triu(1)},
    "additive": {"attn_mask": torch.linspace(-1, 1, 35).reshape(5, 7)},
    "padding": {"key_padding_mask": torch.arange(7).repeat(3, 1) > torch.tensor([[6], [4], [2]])},
    "both": {
        "attn_mask": torch.linspace(-1, 1, 35).reshape(5, 7),
        "key_padding_mask": torch.where(torch.arange(7).repeat(3, 1) > 4, -2.0, 0.0),
        "need_weights": False,
    },
    "of every head": {"attn_mask": torch.linspace(-1, 1, 3 * 4 * 35).reshape(12, 5, 7)},
}
LAYERS: dict[str, dict[str, Any]] = {
    "batch first": {"batch_first": True},
    "length first": {},
    "no bias": {"bias": False, "batch_first": True},
    "other widths": {"kdim": 6, "vdim": 9},
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("call", MASKS)
@pytest.mark.parametrize("layer", LAYERS)
def test_it_computes_what_torch_does(layer: str, call: str, training: bool) -> None:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(8, 4, **LAYERS[layer]).train(training)
    inputs = [torch.randn(3, n, width) for n, width in ((5, 8), (7, module.kdim), (7, module.vdim))]
    inputs = inputs if module.batch_first else [x.transpose(0, 1) for x in inputs]
    agree(module, inputs, MASKS[call])


@pytest.mark.parametrize("call", ["nothing", "no weights", "causal", "additive"])
def test_without_a_batch(call: str) -> None:
    agree(nn.MultiheadAttention(8, 4), [torch.randn(5, 8), *[torch.randn(7, 8)] * 2], MASKS[call])


def agree(module: nn.Module, inputs: list[Tensor], keywords: dict[str, Any]) -> None:
    wanted = module(*inputs, **keywords)
    with plain(module):
        assert type(module) is Attention
        found = module(*inputs, **keywords)
    assert type(module) is nn.MultiheadAttention
    assert found[0].shape == wanted[0].shape and torch.allclose(found[0], wanted[0], atol=1e-6)
    assert (found[1] is None) == (wanted[1] is None)
    assert wanted[1] is None or torch.allclose(found[1], wanted[1], atol=1e-6)


class Net(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.embed, self.attn, self.head = (
            nn.Linear(3, 8),
            nn.MultiheadAttention(8, 4, batch_first=True, **options),
            nn.Linear(8, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.embed(x))
        return self.head(self.attn(x, x, x)[0])


def test_heads_and_widths_go_and_the_model_of_the_user_stays_torchs() -> None:
    model = Net().eval()
    before = copy.deepcopy(model.state_dict())
    space = ChannelSpace(model, torch.randn(2, 5, 3))
    assert {s.name: s.size for s in space.segments} == {
        "embed": 8,
        "attn.heads": 4,
        "attn.head_dim": 2,
        "attn.out_proj": 8,
    }
    genome = space.base.copy()
    genome[space.slices["attn.heads"]] = [1, 0, 0, 1]
    genome[space.slices["embed"]] = [1, 1, 1, 0, 0, 0, 0, 1]
    slim = space.build(genome)
    assert (
        slim.attn.in_proj_weight.shape == (3 * 2 * 2, 4)
        and slim.attn.num_heads == 2
        and slim.attn.out_proj.weight.shape == (8, 4)
    )
    assert type(model.attn) is nn.MultiheadAttention
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_scale_stays_that_of_the_full_model() -> None:
    space = ChannelSpace(Net().eval(), torch.randn(2, 5, 3))
    genome = space.base.copy()
    genome[space.slices["attn.head_dim"]] = [0, 1]
    assert space.build(genome).attn.head_dim == 2 and space.difference(genome) < 1e-6


@pytest.mark.parametrize("options", [{"add_bias_kv": True}, {"add_zero_attn": True}])
def test_an_attention_with_keys_of_its_own_is_frozen_and_runs(options: dict[str, Any]) -> None:
    class Tailed(Net):
        def __init__(self) -> None:
            super().__init__(**options)
            self.tail = nn.Linear(2, 6)
            self.last = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.relu(self.tail(super().forward(x))))

    space = ChannelSpace(Tailed().eval(), torch.randn(2, 5, 3))
    assert {"attn.heads", "attn.head_dim"}.isdisjoint(
        s.name for s in space.segments
    ) and "tail" in space.slices
    assert space.difference(space.sample(1, np.random.default_rng(0))[0]) < 1e-6


def test_an_attention_that_hardly_matters_is_not_trusted_for_that() -> None:
    """Errors far below single precision's noise of a large output show in double precision."""
    space = ChannelSpace(Net().eval(), torch.randn(2, 5, 3) * 1e-3)
    genome = space.base.copy()
    genome[space.slices["attn.heads"]] = [0, 1, 1, 0]
    assert space.difference(genome, precise=True) < 1e-12
