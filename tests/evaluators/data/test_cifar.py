import numpy as np
import pytest
import torch
from torch import nn

from evaluators.data import CifarFolder
from evaluators.data.cifar import DEVIATIONS, MEANS, TEST_FILE, TRAIN_FILES
from evaluators.testing import DataContract
from spaces import InputError

FILES = (*TRAIN_FILES, TEST_FILE)
SPLITS = ("train", "calibration", "search", "test")


@pytest.fixture
def folder(cifar_folder):
    return cifar_folder


@pytest.fixture
def other(folder, tmp_path):
    """The same files in a folder where they may be damaged."""
    for name in FILES:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    return tmp_path


class TestCifarFolder(DataContract):
    @pytest.fixture(autouse=True)
    def _folder(self, folder):
        self.folder = folder

    def data(self):
        return CifarFolder(str(self.folder))

    def model(self):
        return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))


def whole(data, split):
    return next(iter(data.batches(split, 1000)))


def test_a_pixel_lands_where_its_byte_says(other):
    content = bytearray((other / TEST_FILE).read_bytes())
    at = 7 * 3073  # the eighth record
    content[at] = 3
    content[at + 1 : at + 3073] = bytes(3072)
    for channel, value in enumerate((255, 51, 102)):
        content[at + 1 + channel * 1024 + 5 * 32 + 9] = value  # row 5, column 9
    (other / TEST_FILE).write_bytes(content)
    images, labels = whole(CifarFolder(str(other)), "test")
    assert images.shape == (30, 3, 32, 32) and images.dtype == torch.float32 and labels[7] == 3
    for channel, value in enumerate((1.0, 0.2, 0.4)):
        assert images[7, channel, 5, 9].item() == pytest.approx(
            (value - MEANS[channel]) / DEVIATIONS[channel], abs=1e-6
        )
    images[7, :, 5, 9] = images[7, :, 0, 0]
    for channel in range(3):
        assert images[7, channel].unique().tolist() == pytest.approx(
            [-MEANS[channel] / DEVIATIONS[channel]], abs=1e-6
        )


def test_images_and_labels_stay_together_whatever_the_split(folder):
    data = CifarFolder(str(folder))
    assert [data.size(s) for s in SPLITS] == [225, 5, 20, 30]
    raw = np.concatenate(
        [np.frombuffer((folder / name).read_bytes(), np.uint8).reshape(-1, 3073) for name in FILES]
    )
    means, deviations = (np.array(values).reshape(3, 1, 1) for values in (MEANS, DEVIATIONS))
    seen = np.concatenate([data.rows(split) for split in SPLITS])
    assert sorted(seen) == list(range(len(raw)))
    assert data.rows("test").tolist() == list(range(250, 280)), "the test split is the test file"
    for split in SPLITS:
        images, labels = whole(data, split)
        chosen = raw[data.rows(split)]
        np.testing.assert_allclose(
            images.numpy(), (chosen[:, 1:].reshape(-1, 3, 32, 32) / 255 - means) / deviations, atol=1e-5
        )
        assert labels.tolist() == chosen[:, 0].tolist()


def test_the_fingerprint_knows_every_pixel_and_every_split(folder, other):
    before = CifarFolder(str(folder)).fingerprint
    assert CifarFolder(str(other)).fingerprint == before
    assert CifarFolder(str(folder), seed=1).fingerprint != before
    content = bytearray((other / TRAIN_FILES[2]).read_bytes())
    content[3073 * 4 + 100] ^= 1
    (other / TRAIN_FILES[2]).write_bytes(content)
    assert CifarFolder(str(other)).fingerprint != before


def test_images_are_held_as_bytes(folder):
    data = CifarFolder(str(folder))
    held = sum(x.nbytes for x in vars(data).values() if isinstance(x, torch.Tensor))
    assert held == 280 * 3072


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(other, name):
    (other / name).unlink()
    with pytest.raises(
        InputError, match=f"no file {name}; expected data_batch_1.bin to data_batch_5.bin and test_batch.bin"
    ):
        CifarFolder(str(other))


@pytest.mark.parametrize("length", [0, 1, 3072, 3073 * 4 + 1])
def test_a_file_of_another_length_is_named(other, length):
    (other / TRAIN_FILES[3]).write_bytes(bytes(length))
    with pytest.raises(
        InputError, match=f"data_batch_4.bin: {length} bytes are no whole number of records of 3073 bytes"
    ):
        CifarFolder(str(other))


def test_a_label_above_nine_is_named(other):
    content = bytearray((other / TEST_FILE).read_bytes())
    content[3073 * 6] = 10
    (other / TEST_FILE).write_bytes(content)
    with pytest.raises(InputError, match=r"test_batch.bin: label 10 in record 6; expected 0 to 9"):
        CifarFolder(str(other))


def test_shares_and_numbers_of_samples_are_those_of_the_arrays(folder):
    with pytest.raises(InputError, match="less than 1 together"):
        CifarFolder(str(folder), calibration=0.5, search=0.5)
    assert CifarFolder(str(folder), train_samples=12).size("train") == 12
    clean, noisy = (whole(CifarFolder(str(folder), label_noise=share), "train")[1] for share in (0.0, 0.2))
    assert (clean != noisy).sum() == 45
