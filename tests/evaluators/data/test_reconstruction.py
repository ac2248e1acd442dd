import numpy as np
import pytest
import torch
from torch import nn

from evaluators.data import Arrays, BinaryClusters, Digits, Reconstruction, Restoring
from evaluators.testing import DataContract
from spaces import InputError


class Flat(nn.Module):
    """Gives flat outputs of the size of its inputs, in 0 .. 1."""

    def __init__(self, size):
        super().__init__()
        self.layer = nn.Linear(size, size)

    def forward(self, x):
        return self.layer(x.flatten(1)).sigmoid()


class TestReconstruction(DataContract):
    def data(self):
        return Reconstruction(Digits())

    def model(self):
        return Flat(64)


class TestScaledWithGaps(DataContract):
    def data(self):
        return Reconstruction(Digits(), "bce", unit=True, missing=0.25)

    def model(self):
        return Flat(64)


class TestBinaryClusters(DataContract):
    def data(self):
        return BinaryClusters(clusters=3, samples=20, size=300)

    def model(self):
        return nn.Linear(300, 3)


class TestReconstructionOfBinaryClusters(DataContract):
    def data(self):
        return Reconstruction(BinaryClusters(clusters=3, samples=20, size=300, as_published=True))

    def model(self):
        return Flat(300)


def whole(data, split):
    return next(iter(data.batches(split, 10_000)))


def test_targets_are_the_inputs():
    inputs, targets = whole(Reconstruction(Digits()), "search")
    assert torch.equal(inputs, targets)
    assert torch.equal(inputs, whole(Digits(), "search")[0])


def test_losses_are_means_of_the_entries():
    outputs, targets = torch.tensor([[0.5, 0.0], [1.0, 0.25]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert Restoring("l1").loss(outputs, targets).tolist() == [0.25, 0.375]
    assert Restoring("mse").loss(outputs, targets).tolist() == [0.125, 0.28125]
    expected = -torch.tensor([np.log(0.5) / 2, np.log(0.25) / 2]).float()
    assert torch.allclose(Restoring("bce", unit=True).loss(outputs, targets), expected)


def test_flat_outputs_meet_images_entry_by_entry():
    data = Reconstruction(Digits())
    inputs, targets = next(iter(data.batches("train", 4)))
    assert (data.loss(inputs.flatten(1), targets) == 0).all()


def test_bce_is_a_metric_only_of_values_in_0_to_1():
    assert Reconstruction(Digits()).metric_names == ("l1", "mse")
    assert Reconstruction(Digits(), unit=True).metric_names == ("l1", "mse", "bce")
    with pytest.raises(InputError, match="bce"):
        Reconstruction(Digits(), "bce")
    with pytest.raises(InputError, match="l1, mse, bce"):
        Reconstruction(Digits(), "huber")


def test_values_are_scaled_by_the_training_split():
    inputs, _ = whole(Reconstruction(Digits(), unit=True), "train")
    assert (inputs.min(), inputs.max()) == (0, 1)
    raw = whole(Digits(), "train")[0]
    assert torch.allclose(inputs, (raw - raw.min()) / (raw.max() - raw.min()))


def test_missing_entries_are_as_many_in_every_sample_and_targets_stay_whole():
    data, plain = Reconstruction(Digits(), unit=True, missing=0.25), Reconstruction(Digits(), unit=True)
    inputs, targets = whole(data, "test")
    assert torch.equal(targets, whole(plain, "test")[1])
    changed = (inputs != targets).flatten(1)
    assert (inputs[inputs != targets] == 0).all()
    assert changed.sum(1).max() <= 16
    ones = Reconstruction(Arrays(np.ones((40, 8), np.float32), np.zeros(40, int)), missing=0.25)
    assert all(((whole(ones, split)[0] == 0).sum(1) == 2).all() for split in ("train", "test"))
    assert data.fingerprint != plain.fingerprint


def test_what_has_no_single_float_input_is_refused():
    with pytest.raises(InputError, match="2 inputs a sample"):
        Reconstruction(Arrays((np.zeros((20, 2)), np.zeros((20, 3))), np.zeros(20, int)))
    with pytest.raises(InputError, match="int64"):
        Reconstruction(Arrays(np.zeros((20, 2), int), np.zeros(20, int)))


def test_clusters_are_centroids_with_some_bits_flipped():
    data = BinaryClusters(clusters=4, samples=200, size=300)
    inputs, labels = whole(data, "train")
    assert set(inputs.unique().tolist()) == {0.0, 1.0}
    assert torch.bincount(labels).tolist() == [200] * 4
    centroids = torch.stack([inputs[labels == c].mean(0).round() for c in range(4)])
    for split in ("train", "calibration", "search", "test"):
        x, y = whole(data, split)
        assert abs((x - centroids[y]).abs().mean() - 0.05) < 0.004, split  # one centroid for all splits
    assert abs(centroids.mean() - 0.75) < 0.05


def test_every_split_has_noise_of_its_own():
    data = BinaryClusters(clusters=4, samples=50, size=300)
    assert not torch.equal(whole(data, "train")[0], whole(data, "test")[0])


def test_published_noise_is_shared_by_the_clusters():
    def noise(as_published, split="test"):
        x, y = whole(BinaryClusters(clusters=3, samples=400, size=60, as_published=as_published), split)
        return [(x[y == c] - x[y == c].mean(0).round()).abs() for c in range(3)]

    shared, own = noise(True), noise(False)
    assert torch.equal(shared[0], shared[1]) and torch.equal(shared[0], shared[2])
    assert not torch.equal(own[0], own[1])
    training = noise(True, "train")
    assert not torch.equal(training[0], training[1])


def test_the_first_batch_has_all_clusters():
    _, labels = next(iter(BinaryClusters(clusters=10).batches("train", 10)))
    assert sorted(labels.tolist()) == list(range(10))


def test_numbers_out_of_range_are_named():
    with pytest.raises(InputError, match="noise 1"):
        BinaryClusters(noise=1.5)
    with pytest.raises(InputError, match="clusters 1"):
        BinaryClusters(clusters=1)
