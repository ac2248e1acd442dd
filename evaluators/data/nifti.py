"""Volumes of medical images with their masks, slice by slice, from a folder that is there already."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.data.arrays import SHARES, Arrays
from evaluators.data.base import SPLITS, Split
from evaluators.data.segmentation import Segmentation
from spaces.errors import InputError

_FRAME = re.compile(r".*_frame\d+\.nii(\.gz)?")


class NiftiFolder(Arrays):
    """Slices ``(1, size, size)`` of the volumes of a folder laid out as ACDC's, and their labels
    ``(size, size)``.

    ``patient001/patient001_frame01.nii.gz`` is a volume (x, y, slices) and ``patient001_frame01_gt.nii.gz``
    its mask (Bernard et al. 2018, doi 10.1109/TMI.2018.2837502); other files are passed over. Every volume is
    resampled within its slices, cropped or padded about the middle to one size, and brought to zero mean and
    unit variance. All frames of a patient are in the same split. It needs nibabel and monai:
    ``pip install 'secateur[segmentation]'``.

    Args:
        folder: with one folder a patient.
        size: of a side of the slices, in pixels.
        spacing: of the pixels in mm; None leaves each volume's own.
        classes: the background and the structures; ACDC has 1 right ventricle, 2 myocardium, 3 left
            ventricle.
        shares: of the patients in each split.
        seed: of the splits.

    Raises:
        InputError: the packages are missing, no such volume, a volume without a mask, a file that cannot be
            read, unequal shapes, labels out of range, or fewer patients than splits; the file is named.
    """

    def __init__(
        self,
        folder: str,
        size: int = 128,
        spacing: float | None = 1.5,
        classes: int = 4,
        shares: Mapping[Split, float] | None = None,
        seed: int = 0,
    ) -> None:
        if size < 1 or (spacing is not None and spacing <= 0):
            raise InputError(
                f"data: size {size} and spacing {spacing}; expected at least 1 pixel and more than 0 mm"
            )
        patients = _find(Path(folder))
        rows_of = _patients_of_splits(sorted(patients), shares or SHARES, seed)
        images: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        owners: list[str] = []
        cases: list[int] = []
        self._case_names: list[str] = []
        for patient in sorted(patients):
            for file in patients[patient]:
                image, mask = _read_pair(file, classes)
                image, mask = _prepare(image, mask, size, spacing)
                images.append(image)
                labels.append(mask)
                owners += [patient] * len(image)
                cases += [len(self._case_names)] * len(image)
                self._case_names.append(file.name.partition(".")[0])
        owner = np.array(owners)
        rows = {split: np.flatnonzero(np.isin(owner, names)) for split, names in rows_of.items()}
        self._cases = np.array(cases)
        super().__init__(np.concatenate(images), np.concatenate(labels), rows, Segmentation(classes), seed)  # type: ignore[arg-type]

    def cases(self, split: Split) -> tuple[np.ndarray, list[str]]:
        """Return which volume every slice of a split comes from, ``(samples,)`` from 0, and the names of
        these volumes.
        """
        numbers, of_slices = np.unique(self._cases[self.rows(split)], return_inverse=True)
        return of_slices, [self._case_names[number] for number in numbers]


def _find(folder: Path) -> dict[str, list[Path]]:
    """Return the volumes of every patient."""
    files = sorted(f for f in folder.glob("*/*.nii*") if _FRAME.fullmatch(f.name)) if folder.is_dir() else []
    if not files:
        found = "no such folder" if not folder.is_dir() else "no volume"
        raise InputError(
            f"data {folder}: {found}; expected volumes such as patient001/patient001_frame01.nii.gz"
        )
    patients: dict[str, list[Path]] = {}
    for file in files:
        patients.setdefault(file.parent.name, []).append(file)
    return patients


def _patients_of_splits(
    patients: list[str], shares: Mapping[Split, float], seed: int
) -> dict[Split, list[str]]:
    """Return the patients of every split, at least one each."""
    parts = np.array([shares.get(split, 0.0) for split in SPLITS], dtype=np.float64)
    if set(shares) != set(SPLITS) or not (parts > 0).all() or parts.sum() > 1 + 1e-9:
        given = ", ".join(f"{name} {share:g}" for name, share in shares.items())
        raise InputError(
            f"data: shares {given}; expected positive numbers for {', '.join(SPLITS)} that sum to at most 1"
        )
    if len(patients) < len(SPLITS):
        raise InputError(
            f"data: {len(patients)} patients; expected at least {len(SPLITS)}, one for each of "
            f"{', '.join(SPLITS)}"
        )
    counts = np.maximum(np.round(parts * len(patients)).astype(int), 1)
    while counts.sum() > len(patients):
        counts[counts.argmax()] -= 1
    order = np.random.default_rng(seed).permutation(len(patients))
    edges = np.cumsum([0, *counts])
    return {
        split: [patients[i] for i in order[a:b]]
        for split, a, b in zip(SPLITS, edges, edges[1:], strict=False)
    }


def _read_pair(file: Path, classes: int) -> tuple[Any, Any]:
    """Return a volume and its mask, both monai MetaTensors ``(x, y, slices)``."""
    ending = "".join(file.suffixes[-2:]) if file.name.endswith(".gz") else file.suffix
    beside = file.with_name(f"{file.name.removesuffix(ending)}_gt{ending}")
    if not beside.is_file():
        raise InputError(f"data {file}: no mask {beside.name} beside it")
    image, mask = _load(file), _load(beside)
    if image.shape != mask.shape:
        raise InputError(
            f"data {beside}: shape {tuple(mask.shape)}, but its image has {tuple(image.shape)}; expected "
            f"equal shapes"
        )
    values = np.asarray(mask)
    wrong = (values != np.round(values)) | (values < 0) | (values >= classes)
    if wrong.any():
        raise InputError(
            f"data {beside}: label {values[wrong][0]:g} is out of range; expected integers from 0 to "
            f"{classes - 1}"
        )
    if not np.isfinite(np.asarray(image)).all():
        raise InputError(f"data {file}: the image holds NaN or infinity; expected finite numbers")
    return image, mask


def _load(file: Path) -> Any:
    """Return a volume ``(x, y, slices)`` as a monai MetaTensor."""
    try:
        import nibabel
        import torch
        from monai.data import MetaTensor
    except ImportError as error:
        raise InputError(
            f"data: NiftiFolder needs {error.name}; pip install 'secateur[segmentation]'"
        ) from None
    try:
        volume = nibabel.load(file)
        array = np.asarray(volume.dataobj, dtype=np.float32)  # type: ignore[attr-defined]
    except Exception as error:  # nibabel raises whatever the damage leads to
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"data {file}: cannot be read ({text}); expected a NIfTI volume") from None
    if array.ndim != 3:
        raise InputError(f"data {file}: shape {array.shape}; expected a volume (x, y, slices)")
    affine = np.asarray(volume.affine, dtype=np.float64)  # type: ignore[attr-defined]
    return MetaTensor(torch.from_numpy(array), affine=torch.from_numpy(affine))


def _prepare(image: Any, mask: Any, size: int, spacing: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the slices ``(slices, 1, size, size)``, float32, and their labels ``(slices, size, size)``,
    int64.

    The mask is taken to lie where its image lies, voxel by voxel, whatever its own header says.
    """
    from monai.transforms import NormalizeIntensity, ResizeWithPadOrCrop, Spacing

    mask.affine = image.affine
    image, mask = image[None], mask[None]
    if spacing is not None:
        image = Spacing(pixdim=(spacing, spacing, -1), mode="bilinear")(image)
        mask = Spacing(pixdim=(spacing, spacing, -1), mode="nearest")(mask)
    image = NormalizeIntensity()(image)
    window = ResizeWithPadOrCrop(spatial_size=(size, size, -1))
    image, mask = (np.asarray(window(part))[0].transpose(2, 0, 1) for part in (image, mask))
    return image[:, None].astype(np.float32), np.round(mask).astype(np.int64)
