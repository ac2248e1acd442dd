"""Arrays keep their types, floats follow the model, and what was recorded before keeps its fingerprint."""

import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from evaluators import (
    Arrays,
    Augmented,
    Digits,
    NpzFile,
    Reconstruction,
    Regression,
    Training,
    WithSplitMetrics,
    fit,
)
from evaluators.data.task import Task
from evaluators.training import Checkpoint
from search import Evolution, Finish, Search
from spaces import TrialSpace
from spaces.errors import InputError
from spaces.models import Perceptron

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 4)), np.arange(60) % 3
TOKENS = RNG.integers(9, size=(60, 2))
TYPES = [torch.float64, torch.bfloat16, torch.float16, torch.float32]


@pytest.mark.parametrize(
    ("make", "fingerprint"),
    [
        (lambda: Arrays(X, Y), "5affd1635c41717d16724e5afcb7a36e"),
        (lambda: Arrays(X.astype(np.float32), Y.astype(np.int32)), "5affd1635c41717d16724e5afcb7a36e"),
        (lambda: Arrays(torch.from_numpy(X), torch.from_numpy(Y)), "5affd1635c41717d16724e5afcb7a36e"),
        (lambda: Arrays(X, X[:, 0]), "ff180626f7c1e331384cfa5f0e88a6d8"),
        (lambda: Arrays((X, TOKENS), Y == 0), "d8742f219270b43fdb24f80027656250"),
        (lambda: Arrays(X, Y == 0, task=Regression()), "63ea779799c7d14c96737f0aa5f9f1bb"),
        (lambda: Digits(label_noise=0.1, train_samples=300), "75c4162036d3d89268ca4f139cd6a22c"),
        (lambda: Reconstruction(Arrays(X, Y), unit=True), "0ca420b0d110024f8d29203fe79e67f2"),
        (lambda: Augmented(Digits()), "a12096b333c9d9e4c18bb325e800a77d"),
    ],
)
def test_data_recorded_before_types_were_kept_have_their_fingerprint(make, fingerprint):
    assert make().fingerprint == fingerprint
    assert make().cast(torch.float32).fingerprint == fingerprint


def first(data, split="train"):
    return next(iter(data.batches(split, 4)))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.bool_, torch.bool),
        (np.uint8, torch.uint8),
        (np.int8, torch.int8),
        (np.int16, torch.int16),
        (np.int32, torch.int32),
        (np.int64, torch.int64),
        (np.uint16, torch.int32),  # torch cannot index them
        (np.uint32, torch.int64),
        (np.float16, torch.float16),
        (np.float32, torch.float32),
        (np.float64, torch.float32),
    ],
)
def test_inputs_keep_their_type(given, kept):
    values = RNG.integers(2, size=(60, 3)).astype(given)
    data = Arrays(values, Y)
    inputs, targets = first(data)
    assert (inputs.dtype, targets.dtype) == (kept, torch.int64)
    assert torch.equal(inputs.long(), torch.from_numpy(values[data.rows("train")[:4]].astype(np.int64)))
    shuffled = [x for x, _ in data.batches("train", 7, torch.Generator().manual_seed(0))]
    assert all(x.dtype == kept for x in shuffled)
    assert pickle.loads(pickle.dumps(data)).fingerprint == data.fingerprint


def test_a_type_is_part_of_what_the_data_are():
    values = RNG.integers(2, size=(60, 3))
    kinds = [np.bool_, np.uint8, np.int8, np.int64, np.float16, np.float32]
    prints = [Arrays(values.astype(kind), Y).fingerprint for kind in kinds]
    assert len(set(prints)) == len(prints)
    assert len({Arrays(X, Y).cast(kind).fingerprint for kind in TYPES}) == 4


class Masks(Task):
    """Binary cross-entropy of masks, as one writes it for bool."""

    metric_names = ("wrong",)

    def loss(self, outputs, targets):
        assert targets.dtype == torch.bool
        return F.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype), reduction="none").mean(
            1
        )

    def metrics(self, outputs, targets):
        return {"wrong": ((outputs > 0) ^ targets).float().mean(1)}


def test_targets_are_what_the_task_takes():
    for kind in (np.int8, np.uint8, np.int32, np.bool_):
        assert first(Arrays(X, (Y > 0).astype(kind)))[1].dtype == torch.int64
        assert first(Arrays(X, (Y > 0).astype(kind), task=Regression()))[1].dtype == torch.int64
    assert first(Arrays(X, X > 0, task=Masks()))[1].dtype == torch.bool
    assert first(Arrays(X, np.ones((60, 2), np.int32), task=Masks()))[1].dtype == torch.int64


@pytest.mark.parametrize("kind", TYPES)
def test_floats_follow_the_model_and_nothing_is_lost_on_the_way(kind):
    data = Arrays((X, TOKENS, Y == 0), X[:, 0])
    cast = data.cast(kind)
    (x, tokens, mask), targets = first(cast)
    assert (x.dtype, tokens.dtype, mask.dtype, targets.dtype) == (kind, torch.int64, torch.bool, kind)
    assert torch.equal(x, torch.from_numpy(X[data.rows("train")[:4]]).to(kind)), (
        "of what was given, not of float32"
    )
    assert first(data)[0][0].dtype == torch.float32, "the data that were given stay as they are"
    assert data.cast(torch.float32) is data


def test_floats_given_a_type_keep_it():
    assert first(Arrays(X, Y, dtype=None))[0].dtype == torch.float64
    for name in ("float16", "bfloat16", "float32", "float64"):
        data = Arrays(X, Y, dtype=name)
        assert first(data)[0].dtype == getattr(torch, name)
        assert data.cast(torch.float32) is data
    with pytest.raises(InputError, match="data: dtype 'half'; expected model, float16, bfloat16"):
        Arrays(X, Y, dtype="half")


def test_a_number_too_large_for_the_models_type_is_refused():
    with pytest.raises(InputError, match=r"inputs hold NaN or infinity as torch.float16; expected finite"):
        Arrays(X * 1e6, Y).cast(torch.float16)


@pytest.mark.parametrize(
    "data",
    [Augmented(Digits()), WithSplitMetrics(Digits(), {"n": len}), Reconstruction(Digits()), Digits()],
    ids=lambda data: type(data).__name__,
)
def test_data_over_data_are_cast_with_them(data):
    cast = data.cast(torch.bfloat16)
    inputs, _ = first(cast)
    assert inputs.dtype == torch.bfloat16 and type(cast) is type(data)
    assert cast.fingerprint != data.fingerprint and cast.cast(torch.float32).metric_names == data.metric_names
    assert first(data)[0].dtype == torch.float32 and data.cast(torch.float32) is data
    shuffled, _ = next(iter(cast.batches("train", 4, torch.Generator().manual_seed(0))))
    assert shuffled.dtype == torch.bfloat16


def test_arrays_made_in_inference_mode_can_be_trained_with():
    with torch.inference_mode():
        data = Arrays(torch.randn(60, 4), torch.arange(60) % 3)
    assert not any(tensor.is_inference() for tensor in first(data))


def test_a_file_of_arrays_keeps_types_too(tmp_path):
    np.savez(tmp_path / "mine.npz", inputs=X > 0, targets=Y.astype(np.uint8))
    assert first(NpzFile(str(tmp_path / "mine.npz")))[0].dtype == torch.bool
    np.savez(tmp_path / "mine.npz", inputs=X, targets=Y)
    assert first(NpzFile(str(tmp_path / "mine.npz"), dtype=None))[0].dtype == torch.float64


class Masked(nn.Module):
    """Takes floats of its own type and a bool mask."""

    def __init__(self, width=8):
        super().__init__()
        self.first, self.second = nn.Linear(4, width), nn.Linear(width, 3)

    def forward(self, x, mask):
        return self.second(F.relu(self.first(x.masked_fill(mask, 0))))


@pytest.mark.parametrize("kind", TYPES)
def test_a_model_of_each_type_is_searched_tuned_and_exported(tmp_path, kind):
    torch.manual_seed(0)
    x = RNG.normal(size=(120, 4))
    data = Arrays((x, x < -1), x.argmax(1) % 3)
    finish = Finish(members=1, epochs=3, onnx=False, latency_repeats=2, latency_seconds=0.0)
    search = Search(
        Masked().to(kind), data, training=Training(epochs=2), finish=finish, directory=tmp_path / "run",
        strategy=Evolution(population=4), study=False, lag=4, chunk=2,
    )  # fmt: skip
    result = search.run(evaluations=6)
    final, model = result.finals[1], result.tuned(1)
    assert not final.reason and {parameter.dtype for parameter in model.parameters()} == {kind}
    assert final.test["test_loss"] < final.test["test_loss_before"], "the steps were lost in rounding"
    assert final.realised["bytes"] == sum(p.nbytes for p in model.parameters())


def test_a_space_that_builds_its_models_says_their_type():
    given = {"class_path": f"{__name__}.Double"}
    space = TrialSpace(model=given, parameters={"training.learning_rate": {"low": 1e-3, "high": 1e-1}})
    search = Search(None, Arrays(X, Y), space=space, objectives=["loss"])
    assert first(search.preparation.data)[0].dtype == torch.float64


class Double(Perceptron):
    def __init__(self):
        super().__init__((4, 8, 3))
        self.double()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_a_training_of_sixteen_bits_goes_on_from_a_checkpoint_bit_by_bit(tmp_path, kind, optimiser):
    data = Arrays(X, Y).cast(kind)
    settings = Training(epochs=4, optimiser=optimiser, learning_rate=0.01)

    def trained(stop, file):
        torch.manual_seed(0)
        model = Perceptron((4, 8, 3)).to(kind)
        checkpoint = Checkpoint(tmp_path / file, "key")
        for report in fit(model, data, settings, checkpoint=checkpoint):
            if report.step == stop:
                break
        return model.state_dict()

    whole = trained(None, "whole.pt")
    trained(2, "cut.pt")
    resumed = trained(None, "cut.pt")
    assert all(torch.equal(whole[name], resumed[name]) and whole[name].dtype == kind for name in whole)


def test_a_step_too_small_for_the_type_adds_up():
    model = nn.Linear(4, 3).bfloat16()
    with torch.no_grad():
        model.weight.fill_(1.0)
    steps = Training(epochs=40, learning_rate=5e-4, weight_decay=0.0, schedule="constant", keep_best=False)
    list(fit(model, Arrays(X, Y).cast(torch.bfloat16), steps))
    assert (model.weight != 1).all()
