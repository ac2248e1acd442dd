import pytest
import torch
import torch.nn.functional as F
from torch import nn

from evaluators import count


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)[0]


ATTENTION = 2 * 5 * 5 * 4 * 2  # heads * queries * keys * width of a head, twice: both products


@pytest.mark.parametrize(
    ("model", "shape", "macs"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), (3, 6, 6), 8 * 3 * 9 * 36),
        (nn.Conv2d(3, 8, 3, stride=2, bias=False), (3, 7, 7), 8 * 3 * 9 * 9),
        (nn.Conv1d(4, 6, 5), (4, 9), 6 * 4 * 5 * 5),
        (nn.Conv3d(1, 2, 2), (1, 3, 3, 3), 2 * 8 * 8),
        (nn.Conv2d(6, 6, 3, groups=6), (6, 5, 5), 6 * 9 * 9),
        (nn.Conv2d(4, 8, 3, groups=2), (4, 5, 5), 8 * 2 * 9 * 9),
        (nn.ConvTranspose2d(4, 6, 3, stride=2), (4, 5, 5), 4 * 6 * 9 * 25),
        (nn.Linear(12, 7), (12,), 12 * 7),
        (nn.Linear(12, 7), (5, 12), 5 * 12 * 7),
        (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.AvgPool2d(2)), (3, 4, 4), 0),
        (Function(lambda x: F.scaled_dot_product_attention(x, x, x)), (2, 5, 4), ATTENTION),
        (Function(lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True)), (2, 5, 4), ATTENTION),
        (Function(lambda x: (x @ x.mT).softmax(-1) @ x), (2, 5, 4), ATTENTION),
        (SelfAttention(), (5, 8), 5 * 8 * 8 * 4 + ATTENTION),
        (
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
            (5, 8),
            5 * 8 * 8 * 4 + ATTENTION + 2 * 5 * 8 * 16,
        ),
        (nn.LSTM(4, 6, batch_first=True), (5, 4), 5 * 4 * 6 * (4 + 6)),
        (Function(lambda x: F.conv2d(x, torch.ones(2, 3, 1, 1))), (3, 4, 4), 2 * 3 * 16),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_macs_by_hand(model, shape, macs, training):
    model.train(training)
    assert count(model, (torch.randn(2, *shape),))["macs"] == macs
    assert model.training is training


def test_parameters_and_bytes_by_hand():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
    )  # 36 + 4 parameters, then 4 + 4; buffers 4 + 4 and an int64
    model[0].weight.requires_grad_(False)  # a frozen parameter is one still
    counted = count(model, (torch.randn(2, 1, 4, 4),))
    assert counted["params"] == 48
    assert counted["bytes"] == 48 * 4 + 8 * 4 + 8
    assert count(model.bfloat16(), (torch.randn(2, 1, 4, 4).bfloat16(),))["bytes"] == 48 * 2 + 8 * 2 + 8


def test_tied_tensors_count_once():
    embedding, head = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
    head.weight = embedding.weight
    counted = count(nn.Sequential(embedding, head), (torch.zeros(2, 3, dtype=torch.long),))
    assert (counted["params"], counted["bytes"], counted["macs"]) == (36, 144, 3 * 36)


def test_counting_leaves_the_world_as_it_was():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    before, state, fast = (
        model[1].running_mean.clone(),
        torch.get_rng_state(),
        torch.backends.mha.get_fastpath_enabled(),
    )
    count(model, (torch.randn(2, 4, generator=torch.Generator().manual_seed(0)),))
    assert torch.equal(model[1].running_mean, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert (
        torch.backends.mha.get_fastpath_enabled() == fast
        and torch.backends.mkldnn.is_available() == torch.backends.mkldnn.enabled
    )
