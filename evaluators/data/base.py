"""The user's data: four disjoint splits, a loss, and metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from spaces.calling import Example, Inputs, example_of
from spaces.structures import samples

if TYPE_CHECKING:
    from evaluators.data.task import Task
    from evaluators.tic import Likelihood

Split = Literal["train", "calibration", "search", "test"]
SPLITS: tuple[Split, ...] = ("train", "calibration", "search", "test")


class Data(ABC):
    """Four disjoint splits and what is measured on them.

    ``train`` teaches weights; ``calibration`` (held out from training) feeds criteria and repairs; ``search``
    scores candidates; ``test`` is seen only once, by what the search has chosen.

    Attributes:
        task: what is learned; None: a loss and metrics of these data alone.
        split_metrics: metrics that are no mean over samples (F1, AUC, mAP): name -> function of the outputs
            and the targets of a whole split, joined on the CPU, that returns one number. Empty by default.
    """

    task: Task | None = None
    split_metrics: Mapping[str, Callable[[Any, Any], float]] = MappingProxyType({})

    @abstractmethod
    def batches(
        self, split: Split, size: int, generator: torch.Generator | None = None
    ) -> Iterator[tuple[Inputs, Any]]:
        """Yield ``(inputs, targets)`` of at most `size` samples, once over the split; shuffled only where a
        generator is given.

        Inputs are one tensor, a tuple of the arguments of ``forward``, or a mapping with its arguments by
        their names. Targets are a tensor, or a structure of tensors (tuples, mappings, and lists with one
        item a sample) that only loss and metrics look into. Both are moved to the model's device, in the
        types that they have.
        """

    @abstractmethod
    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """Return the loss of every sample, shape ``(batch,)``, differentiable."""

    @abstractmethod
    def metrics(self, outputs: Any, targets: Any) -> dict[str, Tensor]:
        """Return metrics of every sample, each of shape ``(batch,)``; an evaluator averages them. ``loss`` is
        added by itself, metrics of a whole split are ``split_metrics``.
        """

    @property
    @abstractmethod
    def metric_names(self) -> tuple[str, ...]:
        """The keys of :meth:`metrics`."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Changes when any sample, label or split changes."""

    def size(self, split: Split) -> int:
        """Return the number of samples; counted by running through the split once, so override it where that
        is slow.
        """
        return sum(samples(targets, inputs) for inputs, targets in self.batches(split, 1024))

    def example(self) -> Example:
        """Return the inputs of two training samples, the arguments of one forward call (a tuple, or a dict by
        their names), to trace a model with.
        """
        inputs, _ = next(self.batches("train", 2))
        return example_of(inputs)

    def cases(self, split: Split) -> tuple[np.ndarray, list[str]] | None:
        """Return the case that each sample belongs to, ``(samples,)``, and the names of the cases; None (the
        default) where every sample is one.
        """
        return None

    def likelihood(self) -> Likelihood | str | None:
        """Return what :class:`evaluators.tic.TIC` takes as the loss of these data; None (the default): that
        of the task.
        """
        return None

    def cast(self, dtype: torch.dtype) -> Data:
        """Return these data for a model whose parameters are of a floating type: with their floats in it, or
        (the default) as they are. These data stay as they are.

        A search asks for it first, and works with what it gets.
        """
        return self

    def validate(self) -> None:  # noqa: B027
        """Raise :class:`spaces.errors.InputError`, naming the split and the sample, where values are NaN or
        labels out of range.
        """
