"""The reader of ACDC's folders, on files written here in that layout."""

import nibabel
import numpy as np
import pytest
import torch
from torch import nn

from evaluators.data import NiftiFolder, overlap_by_case
from evaluators.data.base import SPLITS
from evaluators.testing import DataContract
from spaces.errors import InputError

PATIENTS = 6


def write(file, array, spacing=(1.5, 1.5, 10.0)):
    file.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([*spacing, 1.0])), file)


def volume(number, shape=(20, 24, 3)):
    """An image that is bright where its mask says so, and the mask: a rectangle a structure."""
    rng = np.random.default_rng(number)
    mask = np.zeros(shape, dtype=np.uint8)
    mask[6:14, 6:18] = 2
    mask[8:12, 9:15] = 3
    mask[3:6, 8:16] = 1
    return (100.0 * mask + rng.normal(50, 5, shape)).astype(np.float32), mask


def write_patient(folder, number, frames=(1, 9), **options):
    name = f"patient{number:03d}"
    for frame in frames:
        image, mask = volume(100 * number + frame)
        write(folder / name / f"{name}_frame{frame:02d}.nii.gz", image, **options)
        write(folder / name / f"{name}_frame{frame:02d}_gt.nii.gz", mask, **options)
    write(folder / name / f"{name}_4d.nii.gz", np.zeros((4, 4, 2, 3), dtype=np.float32))
    (folder / name / "Info.cfg").write_text("ED: 1\nES: 9\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("acdc")
    for number in range(1, PATIENTS + 1):
        write_patient(path, number)
    return path


class TestNiftiFolder(DataContract):
    @pytest.fixture(autouse=True)
    def _folder(self, folder):
        self.folder = folder

    def data(self):
        return NiftiFolder(str(self.folder), size=16)

    def model(self):
        torch.manual_seed(0)
        return nn.Conv2d(1, 4, 3, 1, 1)


def whole(data, split):
    return next(data.batches(split, 1000))


def test_slices_are_there_with_their_masks_and_patients_stay_together(folder):
    data = NiftiFolder(str(folder), size=24, spacing=None)
    assert sum(data.size(split) for split in SPLITS) == PATIENTS * 2 * 3
    owners = {}
    for split in SPLITS:
        of_slices, names = data.cases(split)
        assert len(of_slices) == data.size(split) and of_slices.max() + 1 == len(names)
        for name in names:
            owners.setdefault(name.partition("_")[0], set()).add(split)
    assert len(owners) == PATIENTS and all(len(splits) == 1 for splits in owners.values())
    images, labels = whole(data, "train")
    assert images.shape[1:] == (1, 24, 24) and labels.shape[1:] == (24, 24)
    assert labels.unique().tolist() == [0, 1, 2, 3]
    middle = labels[0, 2:22]  # 20 of 24 rows: two were added on either side
    assert torch.equal(middle, torch.from_numpy(volume(1)[1][:, :, 0].astype(np.int64)))
    for label in (1, 2, 3):  # the image still lies under its mask
        assert images[:, 0][labels == label].mean() > images[:, 0][labels == label - 1].mean()


def test_volumes_are_brought_to_one_spacing(tmp_path):
    for number in range(1, 5):
        write_patient(tmp_path, number, frames=(1,), spacing=(1.5, 1.5, 10) if number % 2 else (3.0, 3.0, 10))
    data = NiftiFolder(str(tmp_path), size=40, spacing=1.5, shares=dict.fromkeys(SPLITS, 0.25))
    pixels = {}
    for split in SPLITS:
        (name,) = data.cases(split)[1]
        pixels[name] = whole(data, split)[1].flatten().bincount()[1:].tolist()
    fine, coarse = pixels["patient001_frame01"], pixels["patient002_frame01"]
    assert fine == np.bincount(volume(101)[1].ravel())[1:].tolist()
    assert coarse == pytest.approx([4 * count for count in fine], rel=0.3), (
        "a structure has four times the pixels, none is blended of others"
    )


def test_dice_of_a_volume_is_summed_over_its_slices(folder):
    data = NiftiFolder(str(folder), size=16)
    names, overlap = overlap_by_case(nn.Conv2d(1, 4, 1), data, "test", size=5)
    assert len(names) == 2 * sum(1 for name in names if "frame01" in name) == len(overlap)
    assert overlap.shape[1] == 3


def test_the_seed_draws_the_patients(folder):
    drawn = {tuple(NiftiFolder(str(folder), size=16, seed=seed).cases("test")[1]) for seed in range(5)}
    assert len(drawn) > 1


def refused(path, text, **options):
    with pytest.raises(InputError, match=text) as caught:
        NiftiFolder(str(path), size=16, **options)
    assert "\n" not in str(caught.value)


def test_folders_that_are_none(tmp_path, folder):
    refused(tmp_path / "none", "none: no such folder; expected volumes such as patient001")
    refused(tmp_path, "no volume; expected")
    write_patient(tmp_path, 1)
    refused(tmp_path, "1 patients; expected at least 4")
    refused(folder, "label 3 is out of range; expected integers from 0 to 2", classes=3)
    refused(folder, "shares train 1; expected positive numbers for train, calibration", shares={"train": 1.0})
    refused(folder, "spacing 0", spacing=0)


def test_damaged_pairs_are_named(tmp_path):
    for number in range(1, 5):
        write_patient(tmp_path, number, frames=(1,))
    mask = tmp_path / "patient003" / "patient003_frame01_gt.nii.gz"
    sound = mask.read_bytes()
    write(mask, volume(1)[1][:, :, :2])
    refused(tmp_path, r"patient003_frame01_gt.nii.gz: shape \(20, 24, 2\), but its image has \(20, 24, 3\)")
    write(mask, (volume(1)[1] * 2).astype(np.int16))
    refused(tmp_path, "patient003_frame01_gt.nii.gz: label . is out of range; expected integers from 0 to 3")
    write(mask, volume(1)[1].astype(np.float32) / 2)
    refused(tmp_path, "label 0.5 is out of range")
    mask.write_bytes(sound[: len(sound) // 2])
    refused(tmp_path, "patient003_frame01_gt.nii.gz: cannot be read")
    mask.unlink()
    refused(tmp_path, "patient003_frame01.nii.gz: no mask patient003_frame01_gt.nii.gz beside it")
    mask.write_bytes(sound)
    image = volume(1)[0]
    image[0, 0, 0] = np.nan
    write(tmp_path / "patient002" / "patient002_frame01.nii.gz", image)
    refused(tmp_path, "patient002_frame01.nii.gz: the image holds NaN")
    write(tmp_path / "patient002" / "patient002_frame01.nii.gz", np.zeros((4, 4, 3, 2), dtype=np.float32))
    refused(tmp_path, r"shape \(4, 4, 3, 2\); expected a volume \(x, y, slices\)")
