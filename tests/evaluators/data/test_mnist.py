import gzip

import numpy as np
import pytest
import torch
from torch import nn

from evaluators.data import MnistFolder, Reconstruction
from evaluators.testing import DataContract
from spaces import InputError

NAMES = [
    f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
]


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("mnist"), np.random.default_rng(0)
    for part, n in (("train", 100), ("t10k", 30)):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(
            idx(rng.integers(0, 256, (n, 7, 5)).astype(np.uint8))
        )
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx((np.arange(n) % 10).astype(np.uint8)))
    return folder


class TestMnistFolder(DataContract):
    @pytest.fixture(autouse=True)
    def _folder(self, folder):
        self.folder = folder

    def data(self):
        return MnistFolder(str(self.folder))

    def model(self):
        return nn.Sequential(nn.Flatten(), nn.Linear(35, 10))


def whole(data, split):
    return next(iter(data.batches(split, 1000)))


def test_images_are_scaled_and_keep_their_labels(folder):
    data = MnistFolder(str(folder))
    assert [data.size(s) for s in ("train", "calibration", "search", "test")] == [80, 5, 15, 30]
    raw = np.frombuffer((folder / NAMES[2]).read_bytes()[16:], np.uint8).reshape(30, 1, 7, 5)
    images, labels = whole(data, "test")
    np.testing.assert_allclose(images.numpy(), raw / 255, atol=1e-6)
    assert labels.tolist() == [i % 10 for i in range(30)]
    first = np.frombuffer((folder / NAMES[0]).read_bytes()[16:], np.uint8).reshape(100, 35)
    images, labels = whole(data, "search")
    rows = data.rows("search")
    np.testing.assert_allclose(images.flatten(1).numpy(), first[rows] / 255, atol=1e-6)
    assert labels.tolist() == (rows % 10).tolist()
    assert Reconstruction(data, "bce").metric_names[-1] == "bce"


def test_gzipped_files_are_the_same(folder, tmp_path):
    for name in NAMES:
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
    assert MnistFolder(str(tmp_path)).fingerprint == MnistFolder(str(folder)).fingerprint
    assert not torch.equal(
        whole(MnistFolder(str(folder), seed=1), "train")[0], whole(MnistFolder(str(folder)), "train")[0]
    )


def test_a_missing_file_is_named(folder, tmp_path):
    for name in NAMES[:3]:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(InputError, match=r"no file t10k-labels-idx1-ubyte and no t10k-labels-idx1-ubyte.gz"):
        MnistFolder(str(tmp_path))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x00\x08",
        idx(np.zeros((3, 2), np.uint8)),
        idx(np.zeros((3, 2, 2), np.uint8))[:-1],
        b"<html>",
    ],
    ids=range(5),
)
def test_a_damaged_file_is_named(folder, tmp_path, content):
    for name in NAMES:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / NAMES[0]).write_bytes(content)
    with pytest.raises(InputError, match=NAMES[0]):
        MnistFolder(str(tmp_path))
    (tmp_path / NAMES[0]).unlink()
    (tmp_path / f"{NAMES[0]}.gz").write_bytes(b"not gzip")
    with pytest.raises(InputError, match=r"idx3-ubyte.gz: cannot be read"):
        MnistFolder(str(tmp_path))


def test_shares_that_leave_nothing_to_train_on_are_refused(folder):
    with pytest.raises(InputError, match="less than 1 together"):
        MnistFolder(str(folder), calibration=0.5, search=0.5)
