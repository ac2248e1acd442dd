"""Reconstruction: the targets are the inputs."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from evaluators.data.base import SPLITS, Data, Inputs, Split
from evaluators.data.task import Task, _fit, full, per_sample
from spaces.errors import InputError, require

LossName = Literal["l1", "mse", "bce"]
LOSSES: tuple[LossName, ...] = ("l1", "mse", "bce")


@dataclass(frozen=True)
class Restoring(Task):
    """Distance of outputs to float targets, averaged over a sample's entries; outputs may be flat where
    targets are images.

    Attributes:
        name: of the loss: ``l1`` (absolute difference), ``mse`` (squared), or ``bce``, the binary
            cross-entropy in nats of outputs that are probabilities (a decoder that ends in a sigmoid).
        unit: all targets lie in 0 .. 1, so that ``bce`` is a metric too (of outputs clamped to that range).

    Raises:
        InputError: another name, or ``bce`` for other targets.
    """

    name: LossName = "l1"
    unit: bool = False

    def __post_init__(self) -> None:
        require(
            "data",
            (self.name in LOSSES, f"loss {self.name!r}; expected {', '.join(LOSSES)}"),
            (
                self.name != "bce" or self.unit,
                "loss 'bce' for values beyond 0 .. 1; expected l1, mse, or values scaled to 0 .. 1 "
                "(unit: true)",
            ),
        )

    @property
    def metric_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return LOSSES if self.unit else LOSSES[:2]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        outputs, targets = full(outputs), full(_fit(targets, outputs))
        if self.name == "l1":
            return per_sample((outputs - targets).abs())
        if self.name == "mse":
            return per_sample((outputs - targets).square())
        return per_sample(_cross_entropy(outputs, targets))

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        outputs, targets = full(outputs), full(_fit(targets, outputs))
        difference = outputs - targets
        metrics = {"l1": per_sample(difference.abs()), "mse": per_sample(difference.square())}
        if self.unit:
            metrics["bce"] = per_sample(_cross_entropy(outputs.clamp(0, 1), targets))
        return metrics


class Reconstruction(Data):
    """The inputs of other data as their own targets; the targets there are dropped. It is read once and held
    in memory.

    Args:
        data: with one float input a sample.
        loss: ``l1``, ``mse`` or ``bce``; the first two are metrics always, ``bce`` where all values lie in 0
            .. 1.
        unit: scale values to 0 .. 1 by the smallest and the largest of the training split (beyond them they
            are clamped).
        missing: share of the entries of every input that are set to 0, each sample's own; targets stay whole.
            [O]
        seed: of the missing entries.

    Raises:
        InputError: inputs that are tuples or integers, or ``bce`` for values beyond 0 .. 1.
    """

    def __init__(
        self, data: Data, loss: LossName = "l1", unit: bool = False, missing: float = 0.0, seed: int = 0
    ) -> None:
        if not 0 <= missing < 1:
            raise InputError(f"data: missing {missing}; expected a share of at least 0 and below 1")
        whole = {split: _read(data, split) for split in SPLITS}
        if unit:
            low, high = whole["train"].min(), whole["train"].max()
            whole = {
                split: ((x - low) / (high - low).clamp(min=1e-12)).clamp(0, 1) for split, x in whole.items()
            }
        within = all(bool((x >= 0).all() and (x <= 1).all()) for x in whole.values())
        self.task: Task = Restoring(loss, within)
        self._targets = whole
        self._inputs = (
            {split: _without(x, missing, seed + i) for i, (split, x) in enumerate(whole.items())}
            if missing
            else whole
        )
        text = f"{data.fingerprint} {loss} {unit} {missing} {seed if missing else 0}"
        self._fingerprint = hashlib.sha256(f"reconstruction {text}".encode()).hexdigest()[:32]

    def batches(
        self, split: Split, size: int, generator: torch.Generator | None = None
    ) -> Iterator[tuple[Inputs, Tensor]]:
        inputs, targets = self._inputs[split], self._targets[split]
        order = None if generator is None else torch.randperm(len(targets), generator=generator)
        for start in range(0, len(targets), size):
            rows: slice | Tensor = (
                slice(start, start + size) if order is None else order[start : start + size]
            )
            chosen = targets[rows]
            yield chosen if inputs is targets else inputs[rows], chosen

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.task.loss(outputs, targets)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return self.task.metrics(outputs, targets)

    @property
    def metric_names(self) -> tuple[str, ...]:
        return self.task.metric_names

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def cast(self, dtype: torch.dtype) -> Reconstruction:
        """Return the data with inputs and targets of a floating type."""
        if self._targets["train"].dtype == dtype:
            return self
        other = copy.copy(self)
        same = self._inputs is self._targets
        other._targets = {split: x.to(dtype) for split, x in self._targets.items()}
        other._inputs = other._targets if same else {split: x.to(dtype) for split, x in self._inputs.items()}
        other._fingerprint = hashlib.sha256(f"{self._fingerprint} {dtype}".encode()).hexdigest()[:32]
        return other

    def size(self, split: Split) -> int:
        return len(self._targets[split])


def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the binary cross-entropy of every entry; NaN, of which torch makes an error, where a model has
    diverged.
    """
    try:
        return F.binary_cross_entropy(outputs, targets, reduction="none")
    except RuntimeError:
        if outputs.isnan().any():
            return outputs * torch.nan
        found = f"{outputs.min():.3g} to {outputs.max():.3g}"
        raise InputError(
            f"data: loss 'bce' of outputs from {found}; expected probabilities (end the model in a sigmoid)"
        ) from None


def _read(data: Data, split: Split) -> Tensor:
    parts = []
    for inputs, _ in data.batches(split, 1024):
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            found = (
                f"inputs of type {inputs.dtype}"
                if isinstance(inputs, Tensor)
                else f"{len(inputs)} inputs a sample"
            )
            raise InputError(
                f"data: Reconstruction of {type(data).__name__}, which has {found}; expected one float input"
            )
        parts.append(inputs)
    return torch.cat(parts)


def _without(whole: Tensor, share: float, seed: int) -> Tensor:
    """Return a copy with `share` of each sample's entries at 0, exactly so many in each."""
    flat = whole.flatten(1)
    order = torch.rand(flat.shape, generator=torch.Generator().manual_seed(seed)).argsort(1)
    return flat.scatter(1, order[:, : round(share * flat.shape[1])], 0.0).reshape(whole.shape)
