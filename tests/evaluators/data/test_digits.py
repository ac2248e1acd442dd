import pytest
import torch

from evaluators import Digits
from evaluators.data.base import SPLITS
from evaluators.testing import DataContract
from spaces.errors import InputError
from spaces.models import Perceptron


class TestDigitsData(DataContract):
    def data(self):
        return Digits()

    def model(self):
        torch.manual_seed(0)
        return Perceptron((64, 16, 10))


def test_they_are_all_there_normalised_and_in_their_shares():
    data = Digits()
    assert [data.size(split) for split in SPLITS] == [898, 180, 360, 359]
    images, labels = (
        torch.cat(parts) for parts in zip(*(next(data.batches(split, 1000)) for split in SPLITS), strict=True)
    )
    assert images.shape == (1797, 1, 8, 8)
    assert abs(images.mean()) < 1e-3 and abs(images.std() - 1) < 1e-3
    assert labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_the_hard_variant():
    clean, hard = Digits(train_samples=300), Digits(train_samples=300, label_noise=0.1)
    assert hard.size("train") == 300
    (images, labels), (same, noisy) = next(clean.batches("train", 300)), next(hard.batches("train", 300))
    assert torch.equal(images, same)
    assert (labels != noisy).sum() == 30


def test_too_many_training_samples_are_refused():
    with pytest.raises(InputError, match="expected 1 to 898"):
        Digits(train_samples=1000)
