"""MNIST, and what comes in its format, from files that are there already."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from evaluators.data.arrays import Arrays, held_out
from evaluators.data.task import Classification
from spaces.errors import InputError

_UNSIGNED_BYTES = 8


class MnistFolder(Arrays):
    """Images ``(1, height, width)`` in 0 .. 1 and their labels out of a folder of IDX files, gzipped or
    plain.

    The four files of MNIST (LeCun et al. 1998) and its relatives: ``train-images-idx3-ubyte``,
    ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte``, ``t10k-labels-idx1-ubyte``, each with or without
    ``.gz``. The test split is theirs; the others are drawn from the training images.

    Args:
        folder: where they are.
        calibration: share of the training images that feeds criteria and repairs.
        search: share of them that scores candidates.
        seed: of the splits, of the choice of training samples, and of label noise.
        train_samples: number of training samples that are used. None: all.
        label_noise: share of training labels replaced by another class.

    Raises:
        InputError: a file that is missing or damaged, named; or as :class:`Arrays`.
    """

    def __init__(
        self,
        folder: str,
        calibration: float = 0.05,
        search: float = 0.15,
        seed: int = 0,
        train_samples: int | None = None,
        label_noise: float = 0.0,
    ) -> None:
        images, labels = (
            np.concatenate([_read(Path(folder), f"{part}-{kind}") for part in ("train", "t10k")])
            for kind in _KINDS
        )
        first = len(_read(Path(folder), f"train-{_KINDS[1]}"))
        rows = held_out(first, len(labels) - first, calibration, search, seed)
        pixels = (images[:, None] / 255).astype(np.float32)
        classes = Classification(int(labels.max()) + 1 if len(labels) else None)
        super().__init__(pixels, labels.astype(np.int64), rows, classes, seed, train_samples, label_noise)  # type: ignore[arg-type]


_KINDS = ("images-idx3-ubyte", "labels-idx1-ubyte")


def _read(folder: Path, name: str) -> np.ndarray:
    """Return the array of one IDX file of unsigned bytes."""
    file = next((f for f in (folder / name, folder / f"{name}.gz") if f.is_file()), None)
    if file is None:
        raise InputError(
            f"data {folder}: no file {name} and no {name}.gz; expected the four IDX files of MNIST"
        )
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"data {file}: cannot be read ({error}); expected an IDX file") from None
    axes = content[3] if len(content) > 3 else 0
    start = 4 + 4 * axes
    shape = (
        tuple(np.frombuffer(content[4:start], dtype=">u4").astype(int).tolist())
        if len(content) >= start
        else ()
    )
    wanted = int(name.partition("idx")[2][0])
    if (
        content[:3] != bytes((0, 0, _UNSIGNED_BYTES))
        or axes != wanted
        or len(content) != start + math.prod(shape)
    ):
        raise InputError(
            f"data {file}: {len(content)} bytes are no IDX file of {wanted} axes of unsigned bytes; "
            f"download it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
