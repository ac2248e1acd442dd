"""Loss and metrics of a model on a split: the one place where they are averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from evaluators.data.base import Data, Inputs
from spaces.calling import device_of, forward, mode, placed
from spaces.errors import InputError
from spaces.structures import rows, samples

SplitMetrics = Mapping[str, Callable[[Any, Any], Any]]


def assessed(data: Data | None) -> tuple[str, ...]:
    """Return the names of what :func:`assess` gives."""
    return ("loss",) if data is None else ("loss", *data.metric_names, *data.split_metrics)


def assess(
    model: nn.Module, data: Data, batches: Iterable[tuple[Inputs, Any]], whole: bool = True
) -> dict[str, float]:
    """Return ``loss`` and the data's metrics, averaged over the samples of `batches` in float64, and the
    metrics of the whole split.

    The model runs in eval mode without gradients and comes back in the modes that it had.

    Args:
        whole: whether ``data.split_metrics`` are computed: the outputs of all batches are then held on the
            CPU until the last one is there.

    Raises:
        InputError: a metric of the whole split is no number, or the batches cannot be joined.
    """
    totals: dict[str, Tensor] = {}
    seen = 0
    device = device_of(model)
    joined = Joined(data.split_metrics if whole else {})
    with mode(model, False), torch.inference_mode():
        for inputs, targets in batches:
            targets = placed(targets, device)
            outputs = forward(model, inputs)
            count = samples(targets, inputs)
            seen += count
            for name, values in {
                "loss": data.loss(outputs, targets),
                **data.metrics(outputs, targets),
            }.items():
                total = values.sum(dtype=torch.float64)
                totals[name] = totals[name] + total if name in totals else total
            joined.add(outputs, targets, count)
        return {name: total.item() / seen for name, total in totals.items()} | joined.metrics()


class Joined:
    """Outputs and targets of a split, gathered for metrics that are no mean over its samples."""

    def __init__(self, functions: SplitMetrics) -> None:
        self._functions = functions
        self._outputs: list[Any] = []
        self._targets: list[Any] = []

    def add(self, outputs: Any, targets: Any, count: int) -> None:
        if self._functions:
            self._outputs.append(_on_cpu(outputs, count))
            self._targets.append(_on_cpu(targets, count))

    def metrics(self, order: Tensor | None = None) -> dict[str, float]:
        """Return the metrics of all that was added.

        Args:
            order: which of the samples that were added comes first, second and so on, ``(samples,)``; None:
                they came in their order.
        """
        if not self._functions:
            return {}
        outputs, targets = join(self._outputs), join(self._targets)
        if order is not None:
            outputs, targets = rows(outputs, order), rows(targets, order)
        return {name: _number(name, f(outputs, targets)) for name, f in self._functions.items()}


def _on_cpu(value: Any, samples: int) -> Any:
    """Return the tensors of a structure on the CPU, those of 16 bits as float32, which NumPy can read; a list
    that does not hold one item a sample as a tuple.
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
    if isinstance(value, Mapping):
        return {name: _on_cpu(item, samples) for name, item in value.items()}
    if isinstance(value, tuple | list):
        parts = [_on_cpu(item, samples) for item in value]
        return parts if isinstance(value, list) and len(parts) == samples else tuple(parts)
    return value


def join(batches: list[Any]) -> Any:
    """Join batches to one: tensors along their first axis, tuples and mappings part by part, lists, which
    hold one item a sample, end to end.

    Raises:
        InputError: tensors of unequal shapes behind the first axis.
    """
    first = batches[0]
    if isinstance(first, Tensor):
        shapes = {tuple(batch.shape[1:]) for batch in batches}
        if len(shapes) > 1 or first.ndim == 0:
            found = ", ".join(map(str, sorted(shapes))) if first.ndim else "single numbers"
            raise InputError(
                f"data: split_metrics of batches whose samples have shapes {found}; expected one shape, or "
                f"lists with one item a sample"
            )
        return torch.cat(batches)
    if isinstance(first, Mapping):
        return {name: join([batch[name] for batch in batches]) for name in first}
    if isinstance(first, tuple):
        return tuple(join(list(parts)) for parts in zip(*batches, strict=True))
    if isinstance(first, list):
        return [item for batch in batches for item in batch]
    raise InputError(
        f"data: split_metrics of batches that are {type(first).__name__}; expected tensors, or tuples, "
        f"mappings and lists of them"
    )


def _number(name: str, value: Any) -> float:
    try:
        if getattr(value, "shape", ()) not in ((), (1,)):
            raise TypeError(f"shape {tuple(value.shape)}")
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
        raise InputError(
            f"data: split metric {name!r} gives {type(value).__name__}{shape}; expected one number"
        ) from None
