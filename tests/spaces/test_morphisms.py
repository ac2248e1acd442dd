"""Morphisms change a layer and not what the network computes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spaces.morphisms import fits, follow, make_identity, own_tensors, silence, widen

IMAGE = (5, 2, 8, 8)


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def widened(narrow, wide):
    """Widen layer by layer, in eval mode."""
    for layer, old in zip(wide, narrow, strict=True):
        if own_tensors(layer):
            assert fits(layer, old)
            widen(layer, old)
    return wide.eval()


def convolutions(width, kernel=3, last=3):
    torch.manual_seed(width)
    norm = nn.BatchNorm2d(width)
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    first = nn.Conv2d(2, width, kernel, padding=kernel // 2)
    return nn.Sequential(
        first, norm, nn.ReLU(), nn.AdaptiveAvgPool2d((2, 3)), nn.Flatten(), nn.Linear(6 * width, last)
    )


@settings(deadline=None, max_examples=25)
@given(
    old=st.integers(1, 5), more=st.integers(0, 4), kernels=st.sampled_from([(1, 1), (1, 3), (3, 5), (3, 7)])
)
def test_wider_layers_and_larger_kernels_give_the_same_outputs(old, more, kernels):
    narrow, inputs = convolutions(old, kernels[0]).eval(), torch.randn(IMAGE)
    before = {name: tensor.clone() for name, tensor in narrow.state_dict().items()}
    wide = widened(narrow, convolutions(old + more, kernels[1]))
    with torch.no_grad():
        close(wide(inputs), narrow(inputs))
    assert all(torch.equal(tensor, before[name]) for name, tensor in narrow.state_dict().items())
    assert not {t.data_ptr() for t in wide.state_dict().values()} & {
        t.data_ptr() for t in narrow.state_dict().values()
    }


def test_new_units_stay_as_they_were_built_and_only_their_readers_are_zero():
    narrow, wide = convolutions(3), convolutions(5)
    built = {name: tensor.clone() for name, tensor in wide.state_dict().items()}
    now = widened(narrow, wide).state_dict()
    for name in ("0.weight", "0.bias", "1.weight", "1.running_var"):
        assert torch.equal(now[name][3:], built[name][3:]) and torch.equal(
            now[name][:3], narrow.state_dict()[name]
        )
    assert (
        torch.equal(now["5.weight"][:, :18], narrow.state_dict()["5.weight"])
        and not now["5.weight"][:, 18:].any()
    )


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_gates_are_widened_each_on_its_own(kind):
    torch.manual_seed(0)
    narrow, wide, x = kind(3, 4, 2, batch_first=True), kind(5, 7, 2, batch_first=True), torch.randn(2, 6, 5)
    widen(wide, narrow)
    with torch.no_grad():
        close(wide(x)[0][..., :4], narrow(x[..., :3])[0])
        assert wide(x)[0][..., 4:].abs().max() > 1e-3


def test_attention_with_more_heads_and_transposed_convolutions():
    torch.manual_seed(0)
    narrow, wide, x = (
        nn.MultiheadAttention(8, 2, batch_first=True),
        nn.MultiheadAttention(12, 3, batch_first=True),
        torch.randn(2, 6, 12),
    )
    widen(wide, narrow)
    widen(wide.out_proj, narrow.out_proj)
    with torch.no_grad():
        close(wide(x, x, x)[0][..., :8], narrow(*[x[..., :8]] * 3)[0])
    up, wider, image = (
        nn.ConvTranspose2d(2, 3, 4, 2, 1),
        nn.ConvTranspose2d(4, 5, 4, 2, 1),
        torch.randn(2, 4, 5, 5),
    )
    widen(wider, up)
    with torch.no_grad():
        close(wider(image)[:, :3], up(image[:, :2]))


def test_what_does_not_fit():
    assert fits(nn.Linear(4, 5), nn.Linear(4, 5)) and fits(nn.Linear(4, 5), nn.Linear(3, 2))
    assert not fits(nn.Linear(4, 5), nn.Linear(5, 5))
    assert not fits(nn.Linear(4, 5), nn.Linear(4, 5, bias=False))
    assert not fits(nn.Conv1d(4, 4, 1), nn.Conv2d(4, 4, 1)) and not fits(nn.Conv1d(4, 4, 1), nn.Linear(4, 4))


@pytest.mark.parametrize(
    "layer, shape",
    [
        (nn.Linear(4, 4), (3, 4)),
        (nn.Conv1d(4, 4, 5, padding=2), (3, 4, 9)),
        (nn.Conv2d(4, 4, (3, 1), padding=(1, 0), bias=False), (3, 4, 6, 5)),
        (nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4), (3, 4, 6, 5)),
        (nn.Conv3d(4, 4, 3, padding="same"), (3, 4, 4, 3, 5)),
        (nn.BatchNorm2d(4), (3, 4, 6, 5)),
    ],
)
def test_the_identity_gives_what_it_reads_and_can_learn(layer, shape):
    seen = torch.randn(shape)
    assert make_identity(layer.eval())
    outputs = layer(seen)
    close(outputs, seen)
    outputs.square().sum().backward()
    assert layer.weight.grad.abs().max() > 1e-3


def test_what_cannot_be_the_identity():
    for layer in (
        nn.Linear(4, 5),
        nn.Conv2d(4, 4, 2),
        nn.Conv2d(4, 5, 3),
        nn.BatchNorm1d(4, affine=False),
        nn.LayerNorm(4),
        nn.LSTM(4, 4),
    ):
        before = [tensor.clone() for tensor in layer.state_dict().values()]
        assert not make_identity(layer)
        assert all(torch.equal(a, b) for a, b in zip(before, layer.state_dict().values(), strict=True))


def test_a_norm_that_follows_its_inputs_is_the_identity_in_training_too():
    norm, seen = nn.BatchNorm2d(4), torch.randn(6, 4, 5, 5) * 3 + 2
    assert make_identity(norm)
    with torch.no_grad():
        follow(norm, (seen,))
        close(norm.eval()(seen), seen)
        torch.testing.assert_close(norm.train()(seen), seen, rtol=1e-4, atol=1e-4)


def test_the_last_layer_of_a_branch_falls_silent_or_the_norm_behind_it():
    for layers, at in [
        ([nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)], 3),
        ([nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)], 3),
        ([nn.Linear(2, 2), nn.Linear(2, 2), nn.LayerNorm(2)], 1),
        ([nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False)], 0),
    ]:
        assert silence(layers)
        quiet = [
            not any(p.any() for p in layer.parameters()) and bool(list(layer.parameters()))
            for layer in layers
        ]
        assert quiet == [place == at for place in range(len(layers))]
    assert not silence([nn.LayerNorm(3)])
