"""Arrays in memory as data: split, checked, and cheap to ship."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from evaluators.data.base import SPLITS, Data, Inputs, Split
from evaluators.data.split_metrics import functions_of, text_of
from evaluators.data.task import Classification, Regression, Task
from spaces.errors import InputError, require

FloatType = Literal["model", "float16", "bfloat16", "float32", "float64"]
FLOATS: dict[str, torch.dtype] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
_COMPUTABLE = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}
SHARES: dict[Split, float] = {"train": 0.5, "calibration": 0.1, "search": 0.2, "test": 0.2}


class Arrays(Data):
    """Any numpy or torch arrays: classification where the targets are integers, regression where they are
    floats.

    Inputs keep their types: bool (masks), integers (token ids, bytes of images), floats. Integer targets
    become int64, as losses take them, and bool targets too where the task is of classes or numbers. The
    splits are a random permutation by `seed`, cut at the shares.

    Args:
        inputs: ``(samples, ...)``, or a tuple of such arrays for a model of several arguments, or a mapping
            with the arguments of ``forward`` by their names.
        targets: labels ``(samples,)`` (or ``(samples, ...)`` for dense prediction), or float values
            ``(samples, ...)``.
        shares: part of the samples in each split, or the row numbers of each split (integer arrays) where
            they are given by the data.
        task: loss and metrics; :class:`Classification` or :class:`Regression` by the targets' type where it
            is None.
        seed: of the splits, of the choice of training samples, and of label noise.
        train_samples: number of training samples that are used; the other splits stay as they are. None: all.
        label_noise: share of labels replaced by another class, each at random.
        noisy: the splits whose labels are replaced.
        split_metrics: metrics of a whole split by name, see :class:`WithSplitMetrics`.
        dtype: of all floats. ``model``: that of the parameters of the model that is searched; before a search
            says so float64, in which NumPy computes, becomes float32 and the others stay. Null: as given.

    Raises:
        InputError: arrays of unequal length, splits that overlap or are empty, values that are not finite,
            labels out of range.
    """

    def __init__(
        self,
        inputs: Any,
        targets: Any,
        shares: Mapping[Split, float] | Mapping[Split, Sequence[int]] | None = None,
        task: Task | None = None,
        seed: int = 0,
        train_samples: int | None = None,
        label_noise: float = 0.0,
        noisy: Sequence[Split] = ("train",),
        split_metrics: dict[str, str | dict[str, Any] | Callable] | None = None,
        dtype: FloatType | None = "model",
    ) -> None:
        require(
            "data",
            (dtype in (None, "model", *FLOATS), f"dtype {dtype!r}; expected model, {', '.join(FLOATS)}"),
        )
        self.dtype = dtype
        with torch.inference_mode(False):  # what is made inside of it can never be trained with
            self._load(inputs, targets, shares, task, seed, train_samples)
            self.split_metrics = functions_of(split_metrics)
            self.validate()
            if label_noise:
                noise = np.random.default_rng(np.random.SeedSequence(seed).spawn(2)[1])
                self._corrupt(label_noise, noisy, noise)

    def _load(
        self,
        inputs: Any,
        targets: Any,
        shares: Mapping[Split, float] | Mapping[Split, Sequence[int]] | None,
        task: Task | None,
        seed: int,
        train_samples: int | None,
    ) -> None:
        """Take the arrays and split them."""
        parts = self._parts(inputs)
        labels = array_of(targets, "targets")
        for part in parts:
            if len(part) != len(labels):
                raise InputError(
                    f"data: {len(part)} inputs for {len(labels)} targets; both need the same number of "
                    f"samples"
                )
        self.task: Task = task or (Regression() if labels.is_floating_point() else Classification())
        labels = self.task.typed(labels)
        # float64 is kept, beside what is made of it, for a model of that type
        self._exact = [
            part if self.dtype == "model" and part.dtype == torch.float64 else None
            for part in (*parts, labels)
        ]
        *parts, labels = [_floats(part, self.dtype) for part in (*parts, labels)]  # type: ignore[assignment]
        splitting = np.random.default_rng(np.random.SeedSequence(seed).spawn(2)[0])
        self._rows = _split(len(labels), shares or SHARES, splitting)
        if train_samples is not None:
            if not 1 <= train_samples <= len(self._rows["train"]):
                raise InputError(
                    f"data: train_samples {train_samples}; expected 1 to {len(self._rows['train'])}, the "
                    f"size of the training split"
                )
            self._rows["train"] = self._rows["train"][:train_samples]
        self._inputs = {split: tuple(part[rows] for part in parts) for split, rows in self._rows.items()}
        self._targets = {split: labels[rows] for split, rows in self._rows.items()}

    def _parts(self, inputs: Any) -> tuple[Tensor, ...]:
        """Return the inputs as tensors in order, and note how they were given."""
        self._single = not isinstance(inputs, tuple | Mapping)
        self._names = tuple(inputs) if isinstance(inputs, Mapping) else ()
        given = tuple(inputs.values()) if self._names else (inputs,) if self._single else inputs
        return tuple(array_of(part, "inputs") for part in given)

    def cast(self, dtype: torch.dtype) -> Arrays:
        """Return the arrays with their floats in another type, unless they were given one of their own.

        Raises:
            InputError: a number is too large for that type.
        """
        if self.dtype != "model" or dtype not in FLOATS.values() or not self._has_others(dtype):
            return self
        other = copy.copy(self)
        other.__dict__.pop("fingerprint", None)
        *inputs, target = self._exact or [None] * (1 + len(self._inputs["train"]))
        other._inputs, other._targets = {}, {}
        with torch.inference_mode(False):
            for split, rows in self._rows.items():
                other._inputs[split] = tuple(
                    _in_type(part, exact, rows, dtype)
                    for part, exact in zip(self._inputs[split], inputs, strict=True)
                )
                other._targets[split] = _in_type(self._targets[split], target, rows, dtype)
        other.validate()
        return other

    def _has_others(self, dtype: torch.dtype) -> bool:
        """Whether some floats are of another type than this."""
        return any(
            part.is_floating_point() and part.dtype != dtype
            for part in (*self._inputs["train"], self._targets["train"])
        )

    def __getstate__(self) -> dict[str, Any]:
        """What was float64 stays in the process where it was given."""
        return self.__dict__ | {"_exact": None}

    def batches(
        self, split: Split, size: int, generator: torch.Generator | None = None
    ) -> Iterator[tuple[Inputs, Tensor]]:
        parts, targets = self._inputs[split], self._targets[split]
        order = None if generator is None else torch.randperm(len(targets), generator=generator)
        for start in range(0, len(targets), size):
            rows: slice | Tensor = (
                slice(start, start + size) if order is None else order[start : start + size]
            )
            chosen = tuple(part[rows] for part in parts)
            yield self._as_given(chosen), targets[rows]

    def _as_given(self, parts: tuple[Tensor, ...]) -> Inputs:
        if self._names:
            return dict(zip(self._names, parts, strict=True))
        return parts[0] if self._single else parts

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.task.loss(outputs, targets)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return self.task.metrics(outputs, targets)

    @property
    def metric_names(self) -> tuple[str, ...]:
        return self.task.metric_names

    def size(self, split: Split) -> int:
        return len(self._targets[split])

    def rows(self, split: Split) -> np.ndarray:
        """Return the row numbers in the arrays given, int64 of shape ``(samples of the split,)``, in the
        order of the batches.
        """
        return self._rows[split].numpy()

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(" ".join([type(self.task).__qualname__, *self._names]).encode())
        for split in SPLITS:
            for tensor in (*self._inputs[split], self._targets[split]):
                digest.update(f"{split} {tensor.dtype} {tuple(tensor.shape)};".encode())
                digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        digest.update(text_of(self.split_metrics).encode())
        return digest.hexdigest()[:32]

    def validate(self) -> None:
        for split in SPLITS:
            for name, tensor in [
                *(("inputs", part) for part in self._inputs[split]),
                ("targets", self._targets[split]),
            ]:
                if tensor.is_floating_point():
                    self._refuse(
                        ~torch.isfinite(tensor),
                        split,
                        f"{name} hold NaN or infinity as {tensor.dtype}; expected finite numbers"
                        if tensor.dtype in (torch.float16, torch.bfloat16)
                        else f"{name} hold NaN or infinity; expected finite numbers",
                    )
            wrong, expected = self.task.invalid(self._targets[split], self._targets["train"])
            self._refuse(wrong, split, f"a label is out of range; expected {expected}")

    def _refuse(self, wrong: Tensor, split: Split, text: str) -> None:
        samples = wrong.flatten(1).any(1) if wrong.ndim > 1 else wrong
        if samples.any():
            sample = int(samples.nonzero()[0, 0])
            raise InputError(
                f"data: split {split!r}, sample {sample} (row {int(self._rows[split][sample])} of the "
                f"arrays): {text}"
            )

    def _corrupt(self, share: float, splits: Sequence[Split], rng: np.random.Generator) -> None:
        if not 0 <= share <= 1 or not set(splits) <= set(SPLITS):
            raise InputError(
                f"data: label_noise {share} on {', '.join(splits)}; expected a share of 0 to 1 and splits "
                f"out of {', '.join(SPLITS)}"
            )
        if not isinstance(self.task, Classification):
            raise InputError("data: label_noise needs class labels; expected integer targets")
        classes = self.task.classes or 1 + max(int(targets.max()) for targets in self._targets.values())
        for split in (s for s in SPLITS if s in splits):
            targets = self._targets[split]
            hit = torch.from_numpy(rng.permutation(targets.numel())[: round(share * targets.numel())])
            shift = torch.from_numpy(rng.integers(1, classes, targets.numel()))[: len(hit)]
            flat = targets.flatten().clone()
            flat[hit] = (flat[hit] + shift) % classes
            self._targets[split] = flat.reshape(targets.shape)


def held_out(train: int, test: int, calibration: float, search: float, seed: int) -> dict[Split, np.ndarray]:
    """Return the rows of every split of data that come with a test split of their own, behind their training
    samples.

    Args:
        train: number of training samples, of which the calibration and the search split are drawn.
        test: number of test samples.
        calibration: share of the training samples.
        search: share of the training samples.
        seed: of the draw.

    Raises:
        InputError: shares that are not positive, or that leave nothing to train on.
    """
    if not (calibration > 0 and search > 0 and calibration + search < 1):
        raise InputError(
            f"data: calibration {calibration} and search {search}; expected positive shares of less than 1 "
            f"together"
        )
    order = np.random.default_rng(seed).permutation(train)
    edges = np.round(np.cumsum([calibration, search]) * train).astype(int)
    return {
        "calibration": order[: edges[0]],
        "search": order[edges[0] : edges[1]],
        "train": order[edges[1] :],
        "test": np.arange(train, train + test),
    }


def array_of(array: Any, name: str = "arrays") -> Tensor:
    """Return a tensor of the same type, or of the next that torch can compute with; what torch cannot take is
    the user's to mend.
    """
    if isinstance(array, np.ndarray) and (not array.dtype.isnative or min(array.strides, default=0) < 0):
        array = np.array(array, array.dtype.newbyteorder("="))  # read backwards, or of another machine
    try:
        tensor = torch.as_tensor(array).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"data: {name} of type {type(array).__name__} are no array of numbers "
            f"({str(error).splitlines()[0]}); expected a numpy array"
        ) from None
    require(
        "data",
        (tensor.ndim > 0, f"{name} are a single number; expected an array (samples, ...)"),
        (not tensor.is_complex(), f"{name} are complex; expected real numbers"),
        (
            tensor.layout is torch.strided and not tensor.is_quantized,
            f"{name} are of {tensor.dtype}, {tensor.layout}; expected dense numbers",
        ),
    )
    return tensor.to(_COMPUTABLE.get(tensor.dtype, tensor.dtype))


def _floats(tensor: Tensor, dtype: FloatType | None) -> Tensor:
    """Return floats in the type that is asked for, before a model is known."""
    if not tensor.is_floating_point() or dtype is None:
        return tensor
    if dtype == "model":
        return tensor.float() if tensor.dtype == torch.float64 else tensor
    return tensor.to(FLOATS[dtype])


def _in_type(part: Tensor, exact: Tensor | None, rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the rows of a part in another floating type, from what is exact where that is known."""
    if not part.is_floating_point():
        return part
    return (part if exact is None else exact[rows]).to(dtype)


def _split(n: int, shares: Mapping[Any, Any], rng: np.random.Generator) -> dict[Split, Tensor]:
    """Return the rows of every split, disjoint and none of them empty."""
    require(
        "data",
        (
            set(shares) == set(SPLITS),
            f"shares for {', '.join(map(str, shares)) or 'nothing'}; expected one for each of "
            f"{', '.join(SPLITS)}",
        ),
    )
    if all(np.ndim(share) == 0 for share in shares.values()):
        rows = _drawn(n, [shares[split] for split in SPLITS], rng)
    else:
        rows = {split: np.asarray(shares[split]) for split in SPLITS}
    for split, chosen in rows.items():
        if len(chosen) == 0:
            raise InputError(
                f"data: split {split!r} is empty with {n} samples; expected at least one sample in every "
                f"split"
            )
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or chosen.min() < 0 or chosen.max() >= n:
            raise InputError(
                f"data: the rows of split {split!r} are not row numbers; expected integers from 0 to {n - 1}"
            )
    values, counts = np.unique(np.concatenate(list(rows.values())), return_counts=True)
    if (counts > 1).any():
        raise InputError(
            f"data: row {int(values[counts > 1][0])} is in the splits twice; expected splits that do not "
            f"overlap"
        )
    return {split: torch.from_numpy(chosen.astype(np.int64)) for split, chosen in rows.items()}


def _drawn(n: int, shares: Sequence[float], rng: np.random.Generator) -> dict[Split, np.ndarray]:
    """Cut a random order of the rows at the shares."""
    parts = np.array(shares, dtype=np.float64)
    require(
        "data",
        (
            (parts > 0).all() and parts.sum() <= 1 + 1e-9,
            f"shares {', '.join(f'{p:g}' for p in parts)}; expected positive numbers that sum to at most 1",
        ),
    )
    edges = np.round(np.cumsum([0, *parts]) * n).astype(int)
    order = rng.permutation(n)
    return {split: order[a:b] for split, a, b in zip(SPLITS, edges, edges[1:], strict=False)}
