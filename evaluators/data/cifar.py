"""CIFAR-10 from files that are there already."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from evaluators.data.arrays import Arrays, held_out
from evaluators.data.base import Inputs, Split
from evaluators.data.task import Classification
from spaces.errors import InputError

TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"
MEANS = (0.4914, 0.4822, 0.4465)
DEVIATIONS = (0.2470, 0.2435, 0.2616)
CLASSES = 10
_SHAPE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32


class CifarFolder(Arrays):
    """60,000 colour images ``(3, 32, 32)`` of ten kinds of things and their labels, out of a folder of the
    CIFAR-10 binary version.

    The six files of Krizhevsky 2009 (Learning Multiple Layers of Features from Tiny Images),
    ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``: records of a label byte and 3072
    bytes of pixels, the red, the green and the blue plane, each row by row. The test split is theirs; the
    others are drawn from the training images, by default 45,000 to learn from, as in He et al. 2016.

    Pixels are brought to 0 .. 1, less the channel's mean (.4914, .4822, .4465), over its standard deviation
    (.2470, .2435, .2616). These are of all pixels of the 50,000 training images, as commonly published; the
    .2023, .1994, .2010 that one meets as well are means of the deviations within an image.

    The images are held as bytes, 184 MB, and become floats a batch at a time: as floats they would take 737
    MB in every worker.

    Args:
        folder: where the files are.
        calibration: share of the training images that feeds criteria and repairs.
        search: share of them that scores candidates.
        seed: of the splits, of the choice of training samples, and of label noise.
        train_samples: number of training samples that are used. None: all.
        label_noise: share of training labels replaced by another class.

    Raises:
        InputError: a file that is missing or damaged, or a label above 9, with the file's name; or as
            :class:`Arrays`.
    """

    def __init__(
        self,
        folder: str,
        calibration: float = 0.02,
        search: float = 0.08,
        seed: int = 0,
        train_samples: int | None = None,
        label_noise: float = 0.0,
    ) -> None:
        train = np.concatenate([_read(Path(folder), name) for name in TRAIN_FILES])
        test = _read(Path(folder), TEST_FILE)
        rows = held_out(len(train), len(test), calibration, search, seed)
        records = np.concatenate([train, test])
        self._pixels = torch.from_numpy(np.ascontiguousarray(records[:, 1:]).reshape(-1, *_SHAPE))
        labels, places = records[:, 0].astype(np.int64), np.arange(len(records))
        super().__init__(places, labels, rows, Classification(CLASSES), seed, train_samples, label_noise)  # type: ignore[arg-type]

    _floats = torch.float32

    def batches(
        self, split: Split, size: int, generator: torch.Generator | None = None
    ) -> Iterator[tuple[Inputs, Tensor]]:
        means, deviations = (torch.tensor(values).reshape(-1, 1, 1) for values in (MEANS, DEVIATIONS))
        for places, labels in super().batches(split, size, generator):
            assert isinstance(places, Tensor)  # the inputs of the arrays are where an image lies
            yield ((self._pixels[places] / 255 - means) / deviations).to(self._floats), labels

    def cast(self, dtype: torch.dtype) -> CifarFolder:
        """Return the data whose images are of a floating type."""
        if dtype == self._floats:
            return self
        other = copy.copy(self)
        other._floats = dtype
        other.__dict__.pop("fingerprint", None)
        return other

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{super().fingerprint} {MEANS} {DEVIATIONS}".encode())
        digest.update(self._pixels.numpy().data)
        if self._floats != torch.float32:
            digest.update(str(self._floats).encode())
        return digest.hexdigest()[:32]


def _read(folder: Path, name: str) -> np.ndarray:
    """Return the records of a file, bytes ``(records, 3073)``."""
    file = folder / name
    if not file.is_file():
        raise InputError(
            f"data {folder}: no file {name}; expected data_batch_1.bin to data_batch_5.bin and {TEST_FILE}, "
            f"the binary version"
        )
    try:
        content = np.frombuffer(file.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise InputError(
            f"data {file}: cannot be read ({error.strerror}); expected records of the CIFAR-10 binary version"
        ) from None
    if not len(content) or len(content) % _RECORD:
        raise InputError(
            f"data {file}: {len(content)} bytes are no whole number of records of {_RECORD} bytes; download "
            f"it again"
        )
    records = content.reshape(-1, _RECORD)
    wrong = np.flatnonzero(records[:, 0] >= CLASSES)
    if len(wrong):
        raise InputError(
            f"data {file}: label {records[wrong[0], 0]} in record {wrong[0]}; expected 0 to {CLASSES - 1}"
        )
    return records
