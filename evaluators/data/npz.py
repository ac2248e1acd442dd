"""A file of arrays as data: what a config can name without a line of Python."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.data.arrays import Arrays, FloatType
from evaluators.data.base import Split
from evaluators.data.task import Task
from spaces.errors import InputError


class NpzFile(Arrays):
    """Arrays of a numpy ``.npz`` file (written by ``np.savez``; pickled objects in it are refused).

    Args:
        path: of the file.
        inputs: name of the array of inputs, or names for a model of several arguments.
        targets: name of the array of targets.

    The other arguments are those of :class:`Arrays`.

    Raises:
        InputError: no such file, no such array (those there are are listed), or as :class:`Arrays`.
    """

    def __init__(
        self,
        path: str,
        inputs: str | Sequence[str] = "inputs",
        targets: str = "targets",
        shares: Mapping[Split, float] | None = None,
        task: Task | None = None,
        seed: int = 0,
        train_samples: int | None = None,
        label_noise: float = 0.0,
        noisy: Sequence[Split] = ("train",),
        split_metrics: dict[str, str | dict[str, Any] | Callable] | None = None,
        dtype: FloatType | None = "model",
    ) -> None:
        names = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        try:
            with np.load(Path(path), allow_pickle=False) as file:
                missing = next((name for name in (*names, targets) if name not in file), None)
                if missing is not None:
                    raise InputError(
                        f"data {path}: no array {missing!r}; there are {', '.join(file.files) or 'none'}"
                    )
                parts, labels = tuple(file[name] for name in names), file[targets]
        except (OSError, zipfile.BadZipFile, ValueError, AttributeError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"data {path}: cannot be read ({str(error).splitlines()[0]}); expected a .npz file of plain "
                f"arrays"
            ) from None
        super().__init__(
            parts[0] if isinstance(inputs, str) else parts,
            labels,
            shares,
            task,
            seed,
            train_samples,
            label_noise,
            noisy,
            split_metrics,
            dtype,
        )
