"""The handwritten digits that scikit-learn ships: real data for machines without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from evaluators.data.arrays import Arrays
from evaluators.data.base import Split
from evaluators.data.task import Classification


class Digits(Arrays):
    """1,797 images ``(1, 8, 8)`` of 10 digits (Alpaydin and Kaynak 1998, by way of scikit-learn), of about
    zero mean and unit variance.

    The scale is fixed (mean 4.884 and deviation 6.017 of all grey values 0 to 16), so that it does not depend
    on the splits.

    Args:
        shares: of the samples in each split; half for training, a tenth for calibration, a fifth each for
            search and test.
        seed: of the splits, of the choice of training samples, and of label noise.
        train_samples: number of training samples that are used (300 makes the task hard enough for
            differences to show). None: all.
        label_noise: share of labels replaced by another class.
        noisy: the splits whose labels are replaced.
    """

    def __init__(
        self,
        shares: Mapping[Split, float] | None = None,
        seed: int = 0,
        train_samples: int | None = None,
        label_noise: float = 0.0,
        noisy: Sequence[Split] = ("train",),
    ) -> None:
        pixels, labels = _read()
        images = (pixels.reshape(-1, 1, 8, 8) - 4.884) / 6.017
        super().__init__(images, labels, shares, Classification(10), seed, train_samples, label_noise, noisy)


def _read() -> tuple[np.ndarray, np.ndarray]:
    """Return pixels ``(n, 64)`` and labels ``(n,)``: from scikit-learn's file, since to import the library,
    with scipy and pandas behind it, takes longer than all else that a complete run does when it is called.
    """
    library = find_spec("sklearn")
    file = Path(str(library and library.origin)).parent / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():
        rows = np.loadtxt(file, delimiter=",")
        return rows[:, :-1], rows[:, -1].astype(int)
    from sklearn.datasets import load_digits

    found = load_digits()
    return found.data, found.target
