"""One batch, before anything starts: whether data and model give what measuring and training need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from evaluators.assessment import assess
from evaluators.data.base import Data, Inputs, Split
from spaces.calling import forward, gradients, mode
from spaces.errors import InputError
from spaces.structures import samples, tensors

_SIZES = (5, 3)
"""Two sizes: what has the shape of a batch by chance has not that of the other."""
_WHOLE = "metrics of a whole split go into Data.split_metrics"
_ASSESS_BATCH = 256


def check_tensors(model: nn.Module) -> None:
    """Refuse parameters and buffers that can never have gradients.

    Raises:
        InputError: naming the first that was made inside ``torch.inference_mode()``.
    """
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if isinstance(tensor, Tensor) and tensor.is_inference():
            raise InputError(
                f"model: {name!r} was made inside torch.inference_mode(); expected a model made (or cloned) "
                f"outside of it"
            )


def check_trainable(model: nn.Module, otherwise: str) -> None:
    """Refuse a model that no gradient can change.

    Args:
        otherwise: what the user may do instead.

    Raises:
        InputError: no parameter requires a gradient.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(
            f"training: no parameter of {type(model).__name__} requires a gradient; expected at least one "
            f"that is not frozen{otherwise}"
        )


def check_data(model: nn.Module, data: Data, *, known: bool, trained: bool) -> None:
    """Run a model on the first samples of the training split, and see that loss and metrics are what they
    have to be.

    Args:
        model: of the shape that the search evaluates; it may change.
        data: of the run.
        known: whether it is the user's model: one that cannot be run, or gives figures that are not finite,
            is refused then. Another one, drawn at random, is passed over.
        trained: whether it will be trained by gradients of the loss.

    Raises:
        InputError: of the first thing that does not fit.
    """
    try:
        with gradients():
            for size in _SIZES:
                _check_batch(model, data, size, known)
            if trained:
                _check_gradients(model, data)
            if data.split_metrics:
                _check_whole(model, data, known)
    except _NotRunnableError as error:
        if known:
            raise InputError(f"model: the base model cannot be evaluated: {error}") from error


class _NotRunnableError(Exception):
    """The model raises on a batch."""


def _check_batch(model: nn.Module, data: Data, size: int, known: bool) -> None:
    inputs, targets = _batch(data, size)
    with mode(model, False), torch.no_grad():
        outputs = _forward(model, inputs)
        losses = _called("loss", data.loss, outputs, targets)
        metrics = _called("metrics", data.metrics, outputs, targets)
    count = samples(targets, inputs)
    _check_values("the loss", losses, count, known)
    if not losses.is_floating_point():
        raise InputError(f"data: the loss is of type {losses.dtype}; expected floats")
    if not isinstance(metrics, Mapping) or set(metrics) != set(data.metric_names):
        found = ", ".join(map(str, metrics)) if isinstance(metrics, Mapping) else type(metrics).__name__
        raise InputError(
            f"data: metrics() returns {found or 'nothing'}; expected {', '.join(data.metric_names)}, as "
            f"metric_names has it"
        )
    for name, values in metrics.items():
        _check_values(f"metric {name!r}", values, count, known)
    names = ["loss", "train_loss", *data.metric_names, *data.split_metrics]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"data: two metrics are called {twice!r}; expected a name for each")


def _batch(data: Data, size: int, split: Split = "train") -> tuple[Inputs, Any]:
    try:
        inputs, targets = next(iter(data.batches(split, size)))
    except StopIteration:
        raise InputError(f"data: split {split!r} is empty; expected at least one sample") from None
    if not isinstance(inputs, Tensor | tuple | Mapping) or not tensors(inputs):
        raise InputError(
            f"data: inputs of a batch are a {type(inputs).__name__}; expected a tensor, or a tuple or "
            f"mapping with tensors, the arguments of forward() in their order or by their names"
        )
    if not isinstance(targets, Tensor | tuple | list | Mapping):
        raise InputError(
            f"data: targets of a batch are a {type(targets).__name__}; expected a tensor whose first axis "
            f"are the samples, or a tuple, mapping or list of such"
        )
    if any(tensor.is_inference() for tensor in tensors((inputs, targets))):
        raise InputError(
            "data: batches hold tensors made inside torch.inference_mode(); expected tensors made (or "
            "cloned) outside of it"
        )
    return inputs, targets


def _forward(model: nn.Module, inputs: Inputs) -> Any:
    try:
        return forward(model, inputs)
    except Exception as error:
        raise _NotRunnableError(_in_a_line(error)) from error


def _called(name: str, function: Any, outputs: Any, targets: Any) -> Any:
    try:
        return function(outputs, targets)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"data: {name}() fails on the first batch: {_in_a_line(error)}{_labels(outputs, targets)}"
        ) from error


def _labels(outputs: Any, targets: Any) -> str:
    """Say what of integer targets is not as labels of classes are."""
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor) or outputs.dim() < 2:
        return ""
    if targets.is_floating_point() or targets.numel() == 0:
        return ""
    if targets.dim() == outputs.dim():
        way = "argmax(1)" if targets.shape[1] > 1 else "squeeze(1)"
        return f"; the targets have shape {tuple(targets.shape)}, labels would be targets.{way}"
    if int(targets.max()) < outputs.shape[1]:
        return ""
    return (
        f"; the model has {outputs.shape[1]} outputs, for labels from 0, and a label is {int(targets.max())}"
    )


def _in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")[:200]


def _check_values(what: str, values: Any, samples: int, known: bool) -> None:
    """Refuse all but one finite number a sample."""
    expected = f"expected one number a sample, a tensor of shape ({samples},)"
    if not isinstance(values, Tensor):
        single = isinstance(values, bool | int | float) or getattr(values, "shape", None) == ()
        hint = f"; {_WHOLE}" if single and what != "the loss" else ""
        raise InputError(f"data: {what} of {samples} samples is a {type(values).__name__}; {expected}{hint}")
    if values.shape != (samples,):
        hint = f"; {_WHOLE}" if values.numel() == 1 and what != "the loss" else ""
        if what == "the loss":
            hint = " (reduction='none')" if values.ndim == 0 else " (the mean over the other axes)"
        raise InputError(
            f"data: {what} of {samples} samples has shape {tuple(values.shape)}; {expected}{hint}"
        )
    if values.is_complex():
        raise InputError(f"data: {what} is of type {values.dtype}; {expected}")
    if known and not torch.isfinite(values).all():
        raise InputError(
            f"data: {what} of the base model is not finite on the first samples of the training split: "
            f"{values.detach().flatten()[~torch.isfinite(values)][0].item()}; expected finite numbers"
        )


def _check_gradients(model: nn.Module, data: Data) -> None:
    """See that a training step of the model is possible."""
    inputs, targets = _batch(data, _SIZES[0])
    if samples(targets, inputs) < 2:
        return  # BatchNorm has no statistics of one sample
    with mode(model, True):
        losses = _called("loss", data.loss, _forward(model, inputs), targets)
        learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        reason = "the loss has no gradient" if losses.requires_grad else "the loss requires no gradient"
        try:
            found = torch.autograd.grad(losses.mean(), learned, allow_unused=True)
        except Exception as error:
            detail = "" if not losses.requires_grad else f" ({_in_a_line(error)})"
            raise InputError(
                f"training: {reason}{detail}; expected outputs and a loss that are differentiable: nothing "
                f"detached, no argmax, no torch.no_grad() in forward()"
            ) from error
    if all(gradient is None for gradient in found):
        raise InputError(
            "training: the loss does not depend on any parameter that requires a gradient; expected outputs "
            "that are not detached, and a loss of them"
        )


def _check_whole(model: nn.Module, data: Data, known: bool) -> None:
    """Compute the metrics of the search split as a whole."""
    batches = ((inputs, targets) for inputs, targets in data.batches("search", _ASSESS_BATCH))
    try:
        found = assess(model, data, batches)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"data: split_metrics fail on the search split: {_in_a_line(error)}") from error
    for name in data.split_metrics:
        if known and found[name] - found[name] != 0:
            raise InputError(
                f"data: split metric {name!r} of the base model is {found[name]} on the search split; "
                f"expected a finite number"
            )
