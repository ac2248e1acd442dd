import pickle

import numpy as np
import pytest
import torch
from torch import nn

from evaluators import Arrays, Classification, NpzFile
from evaluators.data.base import SPLITS
from evaluators.testing import DataContract
from spaces.errors import InputError


def classification(**changes):
    rng = np.random.default_rng(0)
    arguments = {"inputs": rng.normal(size=(60, 4)), "targets": np.arange(60) % 3} | changes
    return Arrays(**arguments)


class TestClassificationData(DataContract):
    def data(self):
        return classification()

    def model(self):
        return nn.Linear(4, 3)


class TestRegressionData(DataContract):
    def data(self):
        rng = np.random.default_rng(0)
        return Arrays(rng.normal(size=(60, 4)), rng.normal(size=60))

    def model(self):
        return nn.Linear(4, 1)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(9, 4), nn.Linear(6, 3)

    def forward(self, tokens, features):
        return self.head(torch.cat([self.embed(tokens).mean(1), features], 1))


class TestDataOfSeveralInputs(DataContract):
    def data(self):
        rng = np.random.default_rng(0)
        return Arrays(
            (rng.integers(0, 9, (60, 5)), rng.normal(size=(60, 2)).astype(np.float32)), torch.arange(60) % 3
        )

    def model(self):
        return TwoInputs()


class TestDenseLabels(DataContract):
    def data(self):
        rng = np.random.default_rng(0)
        return Arrays(rng.normal(size=(40, 1, 4, 4)), rng.integers(0, 2, (40, 4, 4)))

    def model(self):
        return nn.Conv2d(1, 2, 3, padding=1)


def test_splits_cover_the_rows_once_in_the_shares_asked_for():
    data = classification(shares={"train": 0.4, "calibration": 0.2, "search": 0.2, "test": 0.2})
    rows = [data.rows(split) for split in SPLITS]
    assert [len(r) for r in rows] == [24, 12, 12, 12]
    assert sorted(np.concatenate(rows)) == list(range(60))


def test_samples_are_those_of_their_rows():
    inputs, targets = np.random.default_rng(3).normal(size=(60, 4)).astype(np.float32), np.arange(60) % 3
    data = Arrays(inputs, targets)
    got, labels = next(data.batches("search", 100))
    assert (got.numpy() == inputs[data.rows("search")]).all()
    assert (labels.numpy() == targets[data.rows("search")]).all()


def test_shuffling_keeps_inputs_and_targets_together():
    data = Arrays(np.arange(60.0)[:, None], np.arange(60) % 3)
    for inputs, targets in data.batches("train", 7, torch.Generator().manual_seed(0)):
        assert (inputs[:, 0].long() % 3 == targets).all()


def test_the_seed_decides_the_splits():
    assert (classification(seed=1).rows("test") == classification(seed=1).rows("test")).all()
    assert set(classification(seed=1).rows("test")) != set(classification(seed=2).rows("test"))
    assert classification(seed=1).fingerprint != classification(seed=2).fingerprint


def test_given_rows_are_the_splits():
    rows = {
        "train": np.arange(0, 30),
        "calibration": np.arange(30, 40),
        "search": np.arange(40, 50),
        "test": [59, 58],
    }
    data = classification(shares=rows)
    assert data.rows("test").tolist() == [59, 58]
    assert data.size("train") == 30


def test_fewer_training_samples_leave_the_other_splits_alone():
    whole, fewer = classification(), classification(train_samples=10)
    assert fewer.size("train") == 10
    assert set(fewer.rows("train")) < set(whole.rows("train"))
    for split in SPLITS[1:]:
        assert (fewer.rows(split) == whole.rows(split)).all()


def test_label_noise_replaces_that_share_by_other_classes_in_the_training_split_only():
    clean, noisy = classification(), classification(label_noise=0.2)
    labels = [torch.cat([t for _, t in data.batches("train", 64)]) for data in (clean, noisy)]
    assert (labels[0] != labels[1]).sum() == 6  # of 30
    assert labels[1].min() >= 0 and labels[1].max() <= 2
    for split in SPLITS[1:]:
        assert torch.equal(next(clean.batches(split, 64))[1], next(noisy.batches(split, 64))[1])
    assert clean.fingerprint != noisy.fingerprint


@pytest.mark.parametrize("split", SPLITS)
def test_the_fingerprint_sees_every_sample_and_label(split):
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(60, 4)), np.arange(60) % 3
    whole = Arrays(inputs, targets)
    row = whole.rows(split)[-1]
    changed, flipped = inputs.copy(), targets.copy()
    changed[row, 0] += 1
    flipped[row] = (flipped[row] + 1) % 3
    assert (
        len({whole.fingerprint, Arrays(changed, targets).fingerprint, Arrays(inputs, flipped).fingerprint})
        == 3
    )


def test_the_arrays_given_are_not_shared():
    inputs, targets = np.zeros((60, 2), dtype=np.float32), np.arange(60) % 3
    data = Arrays(inputs, targets, label_noise=0.5)
    assert (targets == np.arange(60) % 3).all()
    inputs[:] = 7
    assert all((x == 0).all() for x, _ in data.batches("train", 64))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_inputs_that_are_not_finite_are_refused_with_split_and_row(split, bad):
    inputs = np.zeros((60, 4))
    row = int(classification().rows(split)[2])
    inputs[row, 1] = bad
    with pytest.raises(InputError, match=rf"split '{split}', sample 2 \(row {row} of the arrays\): inputs"):
        Arrays(inputs, np.arange(60) % 3)


def test_targets_that_are_not_finite_are_refused():
    targets = np.zeros(60)
    targets[classification().rows("search")[0]] = np.nan
    with pytest.raises(InputError, match=r"split 'search', sample 0 .*targets"):
        Arrays(np.zeros((60, 4)), targets)


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_out_of_range_are_refused_with_what_is_accepted(label):
    targets = np.arange(60) % 3
    row = int(classification().rows("test")[5])
    targets[row] = label
    with pytest.raises(InputError, match=rf"split 'test', sample 5 \(row {row} .*expected 0 to 2"):
        Arrays(np.zeros((60, 4)), targets, task=Classification(3))
    with pytest.raises(InputError, match="sample 5"):  # the training labels say as much
        Arrays(np.zeros((60, 4)), targets)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": np.arange(59) % 3}, "60 inputs for 59 targets"),
        ({"shares": {"train": 1.0}}, "one for each of train, calibration, search, test"),
        ({"shares": dict.fromkeys(SPLITS, 0.3)}, "sum to at most 1"),
        (
            {"shares": {"train": 0.9, "calibration": 0.001, "search": 0.05, "test": 0.049}},
            "'calibration' is empty",
        ),
        ({"shares": {s: [i, 1] for i, s in enumerate(SPLITS)}}, "row 1 is in the splits twice"),
        ({"shares": {s: [i + 57] for i, s in enumerate(SPLITS)}}, "integers from 0 to 59"),
        ({"train_samples": 31}, "expected 1 to 30"),
        ({"label_noise": 1.5}, "share of 0 to 1"),
        ({"targets": np.zeros(60), "label_noise": 0.1}, "needs class labels"),
        ({"targets": np.zeros(60), "task": Classification()}, "float targets are for Regression"),
        ({"targets": np.array([{}] * 60, dtype=object)}, "expected a numpy array"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(changes, message):
    with pytest.raises(InputError, match=message) as error:
        classification(**changes)
    assert "\n" not in str(error.value)


def test_squared_error_does_not_compare_samples_with_each_other():
    data = Arrays(np.zeros((60, 4)), np.arange(60.0))
    outputs, targets = torch.zeros(3, 1), torch.tensor([1.0, 2.0, 3.0])
    assert data.loss(outputs, targets).tolist() == [1.0, 4.0, 9.0]
    assert data.metrics(outputs, targets)["absolute_error"].tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="do not fit"):
        data.loss(torch.zeros(3, 2), targets)


def test_error_and_accuracy_by_hand():
    metrics = classification().metrics(
        torch.tensor([[2.0, 1, 0], [0, 0, 3], [0, 1, 0]]), torch.tensor([0, 1, 1])
    )
    assert metrics["error"].tolist() == [0, 1, 0]
    assert metrics["accuracy"].tolist() == [1, 0, 1]


def test_it_ships_what_it_uses_and_no_more():
    inputs = np.zeros((6000, 100), dtype=np.float32)
    data = Arrays(inputs, np.arange(6000) % 3, train_samples=100)
    assert len(pickle.dumps(data)) < 0.6 * inputs.nbytes


class TestNpzFile:
    def test_it_is_the_arrays_of_the_file(self, tmp_path):
        inputs, targets = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 3
        np.savez(tmp_path / "mine.npz", x=inputs, y=targets)
        data = NpzFile(str(tmp_path / "mine.npz"), inputs="x", targets="y", seed=4)
        assert data.fingerprint == Arrays(inputs, targets, seed=4).fingerprint

    def test_an_array_that_is_not_there_is_named_with_those_that_are(self, tmp_path):
        np.savez(tmp_path / "mine.npz", x=np.zeros((9, 1)), y=np.zeros(9))
        with pytest.raises(InputError, match="no array 'inputs'; there are x, y"):
            NpzFile(str(tmp_path / "mine.npz"))

    def test_pickled_objects_are_refused(self, tmp_path):
        np.savez(tmp_path / "mine.npz", inputs=np.array([{}] * 60, dtype=object), targets=np.arange(60))
        with pytest.raises(InputError, match=r"expected a \.npz file of plain arrays"):
            NpzFile(str(tmp_path / "mine.npz"))

    @pytest.mark.parametrize("content", [None, b"no archive at all"])
    def test_a_file_that_is_none_is_refused(self, tmp_path, content):
        path = tmp_path / "mine.npz"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            NpzFile(str(path))
