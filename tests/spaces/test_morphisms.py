"""Morphisms change the network and not what it computes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spaces.errors import InputError
from spaces.morphisms import deepen, widen

FLAT, IMAGE = (5, 6), (3, 2, 7, 6)


def network(kind, seed=0):
    """Return first layer, norm, what is between, second layer and inputs."""
    torch.manual_seed(seed)
    if kind == "linear":
        return nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3), torch.randn(FLAT)
    if kind == "conv":
        return nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Conv2d(4, 3, 3, bias=False), torch.randn(IMAGE)
    between = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d((2, 3)), nn.Flatten())
    return nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False), between, nn.Linear(24, 3), torch.randn(IMAGE)


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(
    kind=st.sampled_from(["linear", "conv", "flattened"]),
    units=st.lists(st.integers(0, 3), max_size=6),
    normed=st.booleans(),
    drawn=st.booleans(),
    training=st.booleans(),
)
def test_a_wider_layer_gives_the_same_outputs(kind, units, normed, drawn, training):
    first, norm, between, second, inputs = network(kind)
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    before = [tensor.clone() for module in (first, norm, second) for tensor in module.state_dict().values()]
    wide = widen(first, second, units, norm if normed else None, torch.Generator().manual_seed(1) if drawn else None)
    old = nn.Sequential(first, *[norm] * normed, between, second).train(training)
    new = nn.Sequential(wide[0], *[wide[2]] * normed, between, wide[1]).train(training)
    width = 4 + len(units)
    with torch.no_grad():
        close(new(inputs), old(inputs))
    assert wide[0].weight.shape[0] == (wide[0].out_features if kind == "linear" else wide[0].out_channels) == width
    if not training:  # which moves statistics
        after = [tensor for module in (first, norm, second) for tensor in module.state_dict().values()]
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_equal_shares_leave_copies_alike_and_drawn_ones_part_them():
    for generator, alike in ((None, True), (torch.Generator().manual_seed(0), False)):
        first, _, between, second, inputs = network("linear")
        wide, reader, _ = widen(first, second, [1], generator=generator)
        model = nn.Sequential(wide, between, reader)
        optimiser = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(5):
            optimiser.zero_grad()
            model(inputs).square().mean().backward()
            optimiser.step()
        assert torch.allclose(wide.weight[1], wide.weight[4], atol=1e-7) is alike


def test_sizes_follow_and_nothing_is_shared():
    first, norm, _, second, _ = network("flattened")
    wide, reader, wide_norm = widen(first, second, [0, 0], norm)
    assert (wide.out_channels, reader.in_features, wide_norm.num_features) == (6, 36, 6)
    owned = {t.untyped_storage().data_ptr() for m in (first, norm, second) for t in m.state_dict().values()}
    assert not owned & {t.untyped_storage().data_ptr() for m in (wide, reader, wide_norm) for t in m.state_dict().values()}


@pytest.mark.parametrize(
    "shape, kernel", [((5, 4), None), ((2, 4, 9), [3]), ((2, 4, 6, 5), 3), ((2, 4, 6, 5), [1, 5]), ((2, 4, 3, 4, 5), [3, 3, 1])]
)
def test_one_more_layer_gives_the_same_outputs(shape, kernel):
    seen = torch.randn(shape).relu()
    deeper = deepen(4, nn.ReLU(), kernel)
    with torch.no_grad():
        assert torch.equal(deeper(seen), seen)
        deeper[0].weight.mul_(1.1)
        assert not torch.equal(deeper(seen), seen)


def test_what_does_not_fit_is_refused_in_one_line():
    first, _, _, second, _ = network("linear")
    for call, text in [
        (lambda: widen(first, second, [4]), r"units \[4\]; expected numbers from 0 to 3"),
        (lambda: widen(first, nn.Linear(7, 2), [0]), "consumer reads 7 features of 4 units"),
        (lambda: widen(nn.Conv2d(4, 4, 3, groups=2), second, [0]), "producer Conv2d is not accepted; expected Linear or Conv of one group"),
        (lambda: widen(first, nn.LSTM(4, 2), [0]), "consumer LSTM is not accepted"),
        (lambda: widen(first, second, [0], nn.BatchNorm1d(5)), "norm of 5 features; expected 4"),
        (lambda: deepen(4, nn.GELU()), "activation GELU changes values again; expected ReLU"),
        (lambda: deepen(4, nn.ReLU(), 4), "kernel 4; expected odd numbers"),
    ]:
        with pytest.raises(InputError, match=text):
            call()
