"""Metrics of a whole split: those that are no mean over samples."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluators.data.base import Data, Inputs, Split
from evaluators.data.task import Task
from spaces.callables import function_of, function_text
from spaces.calling import Example
from spaces.errors import InputError


class WithSplitMetrics(Data):
    """Other data with metrics that are computed of a whole split at once, such as F1, AUC or mAP.

    A metric is a function of the outputs and the targets of all samples of the split, tensors on the CPU, in
    the order of the samples; it returns one number. Outputs of 16 bits come as float32. What is a tuple or a
    mapping comes as such, with joined tensors in it; lists that hold one item a sample are joined end to end.
    The outputs of a split are held in memory for it, once a worker: samples times bytes of an output.

    Args:
        data: of any kind.
        split_metrics: name -> function, ``module.function``, or ``class_path`` and ``init_args``.

    Raises:
        InputError: no metric, or a function that does not import.
    """

    def __init__(self, data: Data, split_metrics: dict[str, str | dict[str, Any] | Callable]) -> None:
        self.data = data
        self.split_metrics = {**data.split_metrics, **functions_of(split_metrics)}
        if not split_metrics:
            raise InputError("data: no split_metrics; expected at least one function by its name")

    def batches(
        self, split: Split, size: int, generator: torch.Generator | None = None
    ) -> Iterator[tuple[Inputs, Any]]:
        return self.data.batches(split, size, generator)

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        return self.data.loss(outputs, targets)

    def metrics(self, outputs: Any, targets: Any) -> dict[str, Tensor]:
        return self.data.metrics(outputs, targets)

    @property
    def metric_names(self) -> tuple[str, ...]:
        return self.data.metric_names

    @property
    def task(self) -> Task | None:  # type: ignore[override]
        """What is learned, where the data say so."""
        return self.data.task

    @property
    def fingerprint(self) -> str:
        text = f"{self.data.fingerprint}{text_of(self.split_metrics)}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def cast(self, dtype: torch.dtype) -> WithSplitMetrics:
        """Return the data cast, with the same metrics."""
        cast, other = self.data.cast(dtype), copy.copy(self)
        other.data = cast
        return self if cast is self.data else other

    def size(self, split: Split) -> int:
        return self.data.size(split)

    def example(self) -> Example:
        return self.data.example()

    def cases(self, split: Split) -> tuple[np.ndarray, list[str]] | None:
        return self.data.cases(split)

    def likelihood(self) -> Any:
        return self.data.likelihood()

    def validate(self) -> None:
        self.data.validate()


def functions_of(given: Mapping[str, Any] | None) -> Mapping[str, Callable[[Any, Any], float]]:
    """Return the functions that a configuration or a user names.

    Raises:
        InputError: one of them is no function.
    """
    if not given:
        return {}
    return {name: function_of(one, f"data: split metric {name!r}") for name, one in given.items()}


def text_of(functions: Mapping[str, Callable[[Any, Any], float]]) -> str:
    """Return what the metrics are, for a fingerprint; empty where there are none."""
    return "".join(f"; split metric {name} {function_text(functions[name])}" for name in sorted(functions))
