"""Pictures in folders, one folder a class."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from evaluators.data.base import Split
from evaluators.data.loaders import Loaders
from evaluators.data.task import Classification
from spaces.errors import InputError, require

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_FOLDERS: dict[str, Split] = {
    "train": "train",
    "calibration": "calibration",
    "search": "search",
    "val": "search",
    "valid": "search",
    "validation": "search",
    "test": "test",
}
"""What folders of splits are called."""


class Pictures(Dataset[tuple[Tensor, int]]):
    """Pictures of files, read when they are asked for, each a float tensor ``(channels, height, width)``.

    Args:
        files: of the pictures.
        targets: the class of each.
        size: height and width that pictures are brought to.
        grey: one channel in place of three.
        mean: of the channels, on a scale of 0 to 1, which is taken off.
        deviation: of the channels, that they are divided by.
    """

    def __init__(
        self,
        files: Sequence[Path],
        targets: Sequence[int],
        size: tuple[int, int],
        grey: bool,
        mean: Sequence[float],
        deviation: Sequence[float],
    ) -> None:
        self.files, self.targets, self.size, self.grey = list(files), list(targets), size, grey
        self.mean, self.deviation = (torch.tensor(values).reshape(-1, 1, 1) for values in (mean, deviation))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        from PIL import Image

        file = self.files[place]
        try:
            with Image.open(file) as picture:
                plain = picture.convert("L" if self.grey else "RGB").resize(self.size[::-1])
        except OSError as error:
            raise InputError(f"data {file}: cannot be read ({error}); expected a picture") from None
        pixels = torch.from_numpy(np.array(plain)).float() / 255
        pixels = pixels[None] if self.grey else pixels.movedim(-1, 0)
        return (pixels - self.mean) / self.deviation, self.targets[place]


class ImageFolder(Loaders):
    """A folder with a folder of pictures for each class; or with such folders in ``train``, ``val`` and
    ``test``.

    Pictures are read from their files whenever they are asked for, brought to one size, and given as floats
    from 0 to 1, less `mean` and over `deviation`. Classes are numbered in the order of their names. The
    splits that have no folder are divided off ``train``, class by class. :class:`Augmented` moves and
    mirrors them.

    Args:
        path: of the folder.
        size: height and width, or one number for both.
        grey: one channel in place of three.
        mean: of the channels; as many as there are.
        deviation: of the channels.
        class_weights: as in :class:`Loaders`; so are `shares`, `seed` and `calibration_samples`.

    Raises:
        InputError: Pillow is not installed, no folder, no pictures, or a split with other classes.
    """

    def __init__(
        self,
        path: str | Path,
        size: int | tuple[int, int] = 224,
        grey: bool = False,
        mean: Sequence[float] = (0.5,),
        deviation: Sequence[float] = (0.5,),
        class_weights: Sequence[float] | Literal["balanced"] | None = None,
        calibration_samples: int | None = 2048,
        shares: Mapping[Split, float] | None = None,
        seed: int = 0,
    ) -> None:
        channels = 1 if grey else 3
        require(
            f"data {path}",
            (find_spec("PIL") is not None, "Pillow is not installed; expected it: pip install pillow"),
            (Path(path).is_dir(), "no such folder; expected a folder with a folder for each class"),
            (
                len(mean) in (1, channels) and len(deviation) in (1, channels) and min(deviation) > 0,
                f"mean {mean} and deviation {deviation}; expected one number or {channels} each, deviations "
                f"above 0",
            ),
        )
        folders = {_FOLDERS[child.name]: child for child in _folders(Path(path)) if child.name in _FOLDERS}
        folders = folders if "train" in folders else {"train": Path(path)}
        self.classes = [child.name for child in _folders(folders["train"])]
        height, width = (size, size) if isinstance(size, int) else size
        parts: dict[str, Any] = {
            split: Pictures(*self._found(folder), (height, width), grey, mean, deviation)
            for split, folder in folders.items()
        }
        settings = f"{sorted(self.classes)} {height}x{width} {grey} {[*mean]} {[*deviation]}"
        super().__init__(
            **parts,
            task=Classification(len(self.classes)),
            class_weights=class_weights,
            calibration_samples=calibration_samples,
            shares=shares,
            seed=seed,
            version=_version(Path(path), [file for part in parts.values() for file in part.files], settings),
        )

    def _found(self, folder: Path) -> tuple[list[Path], list[int]]:
        """Return the pictures of a split and their classes."""
        names = [child.name for child in _folders(folder)]
        if other := next((name for name in names if name not in self.classes), None):
            raise InputError(
                f"data {folder}: a class {other!r} that is not in train; expected {', '.join(self.classes)}"
            )
        files = [
            (file, self.classes.index(name))
            for name in names
            for file in sorted((folder / name).rglob("*"))
            if file.suffix.lower() in SUFFIXES
        ]
        if not files:
            raise InputError(
                f"data {folder}: no pictures in folders of classes; expected {', '.join(SUFFIXES)}"
            )
        return [file for file, _ in files], [label for _, label in files]


def _folders(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))


def _version(path: Path, files: Sequence[Path], settings: str) -> str:
    """Return a hash of names and contents of all files, which costs reading them once, and of how they are
    read.
    """
    digest = hashlib.sha256(settings.encode())
    for file in files:
        digest.update(str(file.relative_to(path)).encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:32]
