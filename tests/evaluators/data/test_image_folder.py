"""Pictures in folders of classes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evaluators import Augmented, ImageFolder
from spaces.errors import InputError

Image = pytest.importorskip("PIL.Image")


def write(folder: Path, classes: dict[str, int], seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(256, size=(6, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def test_pictures_of_a_folder_are_divided_class_by_class(tmp_path: Path) -> None:
    write(tmp_path, {"cats": 20, "dogs": 10})
    data = ImageFolder(tmp_path, size=(4, 5), mean=(0,), deviation=(1,))
    assert data.classes == ["cats", "dogs"] and data.task.classes == 2
    pictures, labels = next(data.batches("test", 64))
    assert pictures.shape == (len(labels), 3, 4, 5) and labels.bincount().tolist() == [4, 2]
    assert 0 <= pictures.min() < pictures.max() <= 1
    moved = next(Augmented(data, 1).batches("train", 8, torch.Generator().manual_seed(0)))[0]
    assert moved.shape == (8, 3, 4, 5)


def test_pixels_are_those_of_the_file(tmp_path: Path) -> None:
    write(tmp_path, {"a": 12, "b": 12})
    data = ImageFolder(tmp_path, size=(6, 8), mean=(0.5,), deviation=(0.25,), grey=True)
    picture, label = data._sources["train"].dataset[13]
    wanted = np.asarray(Image.open(tmp_path / "b" / "1.png").convert("L"), dtype=np.float32) / 255
    assert label == 1 and np.allclose(picture[0], (wanted - 0.5) / 0.25, atol=1e-6)


def test_folders_of_splits_are_taken_as_they_are(tmp_path: Path) -> None:
    for seed, name in enumerate(("train", "val", "test")):
        write(tmp_path / name, {"a": 8 + seed, "b": 4}, seed)
    data = ImageFolder(tmp_path, size=4)
    assert data.size("search") == 13 and data.size("test") == 14
    assert data.size("train") + data.size("calibration") == 12
    before = data.fingerprint
    assert ImageFolder(tmp_path, size=4).fingerprint == before
    Image.new("RGB", (8, 6)).save(tmp_path / "val" / "b" / "0.png")
    assert ImageFolder(tmp_path, size=4).fingerprint != before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"path": "nowhere"}, "data nowhere: no such folder"),
        ({"mean": (0.1, 0.2)}, r"data .*: mean \(0.1, 0.2\)"),
        ({}, "data .*: no pictures in folders of classes"),
    ],
)
def test_bad_input_gives_one_line(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        ImageFolder(**{"path": tmp_path, **given})


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"a": 10, "b": 10})
    (tmp_path / "a" / "0.png").write_text("no picture")
    with pytest.raises(InputError, match=r"^data .*a/0\.png: cannot be read"):
        ImageFolder(tmp_path, size=4)._sources["train"].dataset[0]
