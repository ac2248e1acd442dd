import numpy as np
import pytest
import torch
from torch import nn

from evaluators import PairTraining
from evaluators.data import Strings
from evaluators.testing import DataContract
from spaces import InputError, Pair, PairSpace


class Reader(nn.Module):
    """Strings ``(batch, length)`` to codes ``(batch, latent)``."""

    def __init__(self, symbols=4, length=3, hidden=32, latent=16):
        super().__init__()
        self.embed = nn.Embedding(symbols, 8)
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(8 * length, hidden), nn.ReLU(), nn.Linear(hidden, latent), nn.Tanh()
        )

    def forward(self, x):
        return self.layers(self.embed(x))


class Writer(nn.Module):
    """Codes to logits ``(batch, symbols, length)``."""

    def __init__(self, symbols=4, length=3, hidden=32, latent=16):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(latent, hidden),
            nn.ReLU(),
            nn.Linear(hidden, symbols * length),
            nn.Unflatten(1, (symbols, length)),
        )

    def forward(self, code):
        return self.layers(code)


class TestStrings(DataContract):
    def data(self):
        return Strings(4, 3, 60)

    def model(self):
        return Pair(Reader(), Writer())


def everything(data):
    parts = [next(iter(data.batches(split, 10_000))) for split in ("train", "calibration", "search", "test")]
    return (torch.cat(x).numpy() for x in zip(*parts, strict=True))


@pytest.mark.parametrize(
    ("task", "solve"), [("reverse", lambda s: s[::-1]), ("copy", list), ("sort", sorted)]
)
def test_targets_are_the_solved_task(task, solve):
    inputs, targets = everything(Strings(5, 4, 300, task))
    assert inputs.shape == targets.shape == (300, 4) and inputs.dtype == np.int64
    assert all(list(solve(list(s))) == list(t) for s, t in zip(inputs, targets, strict=True))
    assert len(np.unique(inputs, axis=0)) == 300 and set(inputs.ravel()) == set(range(5))


def test_all_strings_there_are():
    inputs, _ = everything(Strings(2, 4, 16))
    assert len(np.unique(inputs, axis=0)) == 16


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"samples": 100_000, "symbols": 2, "length": 6}, "100000 strings"),
        ({"task": "shuffle"}, "reverse, copy, sort"),
        ({"length": 0}, "length 0"),
        ({"length": 99}, "2\\^62"),
    ],
)
def test_what_is_not_accepted_is_named(settings, text):
    with pytest.raises(InputError, match=text):
        Strings(**settings)


def test_a_pair_learns_to_reverse_and_is_pruned_like_any_other():
    data = Strings(4, 3, 60)
    torch.manual_seed(0)
    model = Pair(Reader(), Writer())
    space = PairSpace(model, data.example(), granularity="both")
    assert {
        "encoder.layers.1",
        "encoder.layers.3",
        "decoder.layers.0",
        "weights/decoder.layers.2.weight",
    } <= {s.name for s in space.segments}
    training = PairTraining(epochs=100, batch_size=30, learning_rate=1e-2)
    training.bind(space, data)
    genome = space.base
    genome[space.slices["encoder.layers.1"]][::4] = 0
    loss, _ = training.train(model, space.masks(genome), {}, 1e-2, torch.Generator().manual_seed(0))
    assert loss < 0.8 and training.measure(model)["error"] < 0.5  # 1.39 and .75 by chance
    assert training.losses([model.encoder], [model.decoder], *training.draw(torch.Generator())).shape == (
        1,
        1,
    )
