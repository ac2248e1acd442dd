"""Data as torch and Hugging Face have them: loaders and datasets, one for each split or one to divide."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from evaluators.data.arrays import SHARES
from evaluators.data.base import SPLITS, Data, Inputs, Split
from evaluators.data.guesses import MOST_READ, guessed_task, named_inputs, target_of, task_named
from evaluators.data.sources import EXPECTED, Source, divided, labels_of
from evaluators.data.split_metrics import functions_of, text_of
from evaluators.data.task import Classification, Task, WeightedClassification, prediction
from evaluators.randomness import Randomness
from spaces.callables import FunctionSpec, function_of, function_text
from spaces.errors import InputError, require
from spaces.structures import leaves, mapped, rows, samples

Unpack = Callable[[Any], tuple[Inputs, Any]]


class Loaders(Data):
    """DataLoaders, Datasets (with places or iterable) and Hugging Face datasets as the data of a run.

    What is given is read by loaders of ours, made anew in every process, in the batch sizes that a run asks
    for; batches that are only measured are no larger than the DataLoader's own. Nothing is joined: data may
    be larger than memory. Splits that are not given are divided off `train`, class by class where the labels
    are at hand (a TensorDataset, a column, an attribute ``targets``), else at random.

    A batch of two or more is ``(inputs, ..., targets)``. Of a batch by name the targets are the entry
    `target`, and the other tensors are arguments of ``forward``. Types stay as they are.

    Args:
        train: a DataLoader, a Dataset, a Hugging Face dataset, or a function that makes one.
        calibration: the same; so are `search` and `test`. Needed where `train` flows.
        task: ``classification``, ``regression``, ``token-classification``, ``causal-lm``, ``multi-label``, or
            a :class:`Task`; None: classification of integer targets, regression of floats, and nothing where
            `loss` is given.
        loss: function of outputs and targets: one number a sample, or their mean.
        metrics: name -> function of the same kind; None: those of the task.
        inputs: names of the arguments in a batch by name, or one name for the only argument; None: all
            tensors but the targets.
        target: name of the targets; None: ``labels``, ``label``, ``targets``, ``target`` or ``y``.
        unpack: function of a collated batch that returns inputs and targets, where they are elsewhere.
        class_weights: weights of the classes in the loss, or ``balanced``: by how rare they are in `train`.
        calibration_samples: so many are used at most; None: all.
        shares: of the splits that are not given.
        seed: of the draw.
        split_metrics: metrics of a whole split by name, see :class:`WithSplitMetrics`.
        version: what the data are called in the identity of a run; None: a hash of the labels at hand and of
            some samples of each split.

    Raises:
        InputError: what is given is no source of samples, cannot be divided, or does not tell its targets.
    """

    def __init__(
        self,
        train: Any,
        calibration: Any = None,
        search: Any = None,
        test: Any = None,
        task: Task | str | None = None,
        loss: FunctionSpec | None = None,
        metrics: Mapping[str, FunctionSpec] | None = None,
        inputs: Sequence[str] | str | None = None,
        target: str | None = None,
        unpack: Unpack | None = None,
        class_weights: Sequence[float] | Literal["balanced"] | None = None,
        calibration_samples: int | None = 2048,
        shares: Mapping[Split, float] | None = None,
        seed: int = 0,
        split_metrics: dict[str, str | dict[str, Any] | Callable] | None = None,
        version: str | None = None,
    ) -> None:
        require(
            "data",
            (
                calibration_samples is None or calibration_samples >= 2,
                f"calibration_samples {calibration_samples}; expected at least 2 or null",
            ),
        )
        self.inputs = inputs if inputs is None or isinstance(inputs, str) else tuple(inputs)
        self.target, self.calibration_samples, self.version = target, calibration_samples, version
        self._unpack = None if unpack is None else function_of(unpack, "data: unpack")
        self._loss = None if loss is None else function_of(loss, "data: loss")
        given: dict[Split, Any] = {"train": train, "calibration": calibration, "search": search, "test": test}
        found = {name: Source(source, name) for name, source in given.items() if source is not None}
        self._labels: np.ndarray | None = None
        self._sources = self._divided(found, dict(shares or SHARES), seed)
        self._sizes = {name: len(source) for name, source in self._sources.items()}
        if self.calibration_samples is not None and self._sizes["calibration"]:
            self._sizes["calibration"] = min(self._sizes["calibration"], self.calibration_samples)
        self.task = self._task(task, class_weights)
        own = functions_of(metrics)
        self._metrics = own if metrics is not None or self.task is None else None
        self.split_metrics = functions_of(split_metrics)

    def _divided(
        self, found: dict[Split, Source], shares: dict[Split, float], seed: int
    ) -> dict[Split, Source]:
        """Return a source for each split, those that are missing divided off the training samples."""
        if "train" not in found:
            raise InputError(f"data: train is missing; {EXPECTED}")
        train, missing = found["train"], [name for name in SPLITS if name not in found]
        if train.places is None:
            require(
                "data",
                (
                    not missing,
                    f"train flows and cannot be divided; expected {', '.join(missing)} as well",
                ),
            )
            return found
        self._labels = labels_of(train.dataset, self._target_column(train.dataset))
        if missing:
            wanted: dict[str, float] = {name: shares.get(name, 0.0) for name in missing}
            require(
                "data",
                (
                    all(share > 0 for share in wanted.values()) and sum(wanted.values()) < 1,
                    f"shares {wanted}; expected numbers above 0 for splits that are not given, of less than "
                    f"1 together",
                ),
            )
            parts: dict[str, float] = {"train": 1 - sum(wanted.values()), **wanted}
            places = divided(self._labels, train.places, parts, seed)
            short = next((name for name, own in places.items() if not len(own)), None)
            require(
                "data",
                (
                    short is None,
                    f"{len(train)} samples leave split {short!r} empty; expected more of them, or {short}=",
                ),
            )
            found |= {name: train.part(name, own) for name, own in places.items()}  # type: ignore[misc]
        return {name: found[name] for name in SPLITS}

    def _target_column(self, dataset: Any) -> str | None:
        return self.target or target_of(getattr(dataset, "column_names", None) or ())

    def _task(self, given: Task | str | None, weights: Any) -> Task | None:
        if given is None and self._loss is None:
            task: Task | None = guessed_task(self.unpacked(self._sources["train"].first(2))[1])
        else:
            task = task_named(given) if isinstance(given, str) else given
        if weights is None:
            return task
        require(
            "data",
            (
                type(task) is Classification and self._loss is None,
                "class_weights need the task classification; expected integer targets and no loss",
            ),
            (
                weights != "balanced" or self._labels is not None,
                "class_weights balanced, but the labels are not at hand; expected numbers, or a dataset with "
                "an attribute targets",
            ),
        )
        assert isinstance(task, Classification)
        if weights == "balanced":
            assert self._labels is not None and self._sources["train"].places is not None
            counts = np.bincount(self._labels[self._sources["train"].places], minlength=task.classes or 0)
            weights = counts.sum() / (len(counts) * np.maximum(counts, 1))
        return WeightedClassification(task.classes, tuple(map(float, weights)))

    def batches(
        self, split: Split, size: int, generator: torch.Generator | None = None
    ) -> Iterator[tuple[Inputs, Any]]:
        source = self._sources[split]
        most = self.calibration_samples if split == "calibration" else None
        if split != "train" and source.largest is not None:
            size = min(size, source.largest)
        left = most
        for batch in source.batches(size, generator, most):
            inputs, targets = self.unpacked(batch)
            count = samples(targets, inputs)
            count = count if left is None else min(count, left)
            for start in range(0, count, size):
                part = slice(start, min(start + size, count))
                whole = count <= size and left is None
                yield (inputs, targets) if whole else rows((inputs, targets), part)
            if left is not None:
                left -= count
                if not left:
                    return

    def unpacked(self, batch: Any) -> tuple[Inputs, Any]:
        """Return the inputs and the targets of a collated batch."""
        if self._unpack is not None:
            return self._unpack(batch)
        if isinstance(batch, Mapping):
            return named_inputs(batch, self.inputs, self.target)
        if isinstance(batch, tuple | list) and len(batch) >= 2:
            *parts, targets = batch
            return parts[0] if len(parts) == 1 else tuple(parts), targets
        raise InputError(
            f"data: a batch is a {type(batch).__name__}; expected inputs and targets, by their places or by "
            f"name, or unpack= that returns them"
        )

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        if self._loss is None:
            assert self.task is not None
            return self.task.loss(prediction(outputs), _typed(self.task, targets))
        return _by_sample(self._loss(outputs, targets), targets)

    def metrics(self, outputs: Any, targets: Any) -> dict[str, Tensor]:
        if self._metrics is None:
            assert self.task is not None
            return self.task.metrics(prediction(outputs), _typed(self.task, targets))
        return {name: _by_sample(one(outputs, targets), targets) for name, one in self._metrics.items()}

    @property
    def metric_names(self) -> tuple[str, ...]:
        if self._metrics is None:
            assert self.task is not None
            return self.task.metric_names
        return tuple(self._metrics)

    def size(self, split: Split) -> int:
        """Return the number of samples; of what flows counted once, by running through it."""
        if not self._sizes[split]:
            self._sizes[split] = super().size(split)
        return self._sizes[split]

    def validate(self) -> None:
        """Raise :class:`InputError` where labels that are at hand are negative."""
        if type(self.task) is not Classification or self._labels is None:
            return
        for place in np.flatnonzero(self._labels < 0)[:1]:
            raise InputError(f"data: sample {place} has the label {self._labels[place]}; expected 0 or more")

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(self._described().encode())
        if self.version is None:
            for name, source in self._sources.items():
                digest.update(f"{name} {len(source)};".encode())
                if source.places is not None:
                    digest.update(source.places.tobytes())
                with Randomness(0):  # what augments its samples draws the same
                    for leaf in leaves(self._some(source)):
                        digest.update(_bytes(leaf))
            if self._labels is not None:
                digest.update(self._labels.tobytes())
        return digest.hexdigest()[:32]

    def _some(self, source: Source) -> list[Any]:
        """Return a few samples, from the first to the last; of what flows the first ones."""
        if source.places is None:
            return [source.first(MOST_READ)]
        places = source.places[np.linspace(0, len(source) - 1, min(MOST_READ, len(source))).astype(int)]
        return [source.at(int(place)) for place in places]

    def _described(self) -> str:
        task = "" if self.task is None else f"{type(self.task).__qualname__} {self.task}"
        functions = [self._loss, self._unpack, *(self._metrics or {}).values()]
        texts = [function_text(one) for one in functions if one is not None]
        names = [self.inputs, self.target, self.calibration_samples, self.version, *(self._metrics or ())]
        return f"loaders {task} {names} {texts}{text_of(self.split_metrics)}"


def _typed(task: Task, targets: Any) -> Any:
    return mapped(task.typed, targets)


def _by_sample(values: Any, targets: Any) -> Any:
    """Return one number a sample where a mean over the batch is given."""
    if not isinstance(values, Tensor) or values.ndim:
        return values
    return values.expand(samples(targets))


def _bytes(leaf: Any) -> bytes:
    """Return what a sample holds, the same in every process."""
    if isinstance(leaf, Tensor | np.ndarray):
        array = leaf.detach().cpu() if isinstance(leaf, Tensor) else torch.as_tensor(leaf)
        raw = array.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return f"{array.dtype}{tuple(array.shape)}".encode() + raw
    return (
        repr(leaf).encode() if isinstance(leaf, str | int | float | bool | None) else str(type(leaf)).encode()
    )
