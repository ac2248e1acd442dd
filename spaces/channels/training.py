"""Training mode: what was accepted in eval mode must also run there, forward and backward."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from spaces.calling import Example, device_of, mode
from spaces.channels.trace import tensors_by_name
from spaces.errors import InputError
from spaces.outputs import outputs_of, tensors_in
from spaces.structures import mapped, tensors


class Built(Protocol):
    """What is needed of a space."""

    model: nn.Module
    example: Example

    @property
    def length(self) -> int: ...
    def build(self, genome: np.ndarray) -> nn.Module: ...


class TrainingRun:
    """Runs compact models in training mode on the example, with random numbers of their own."""

    def __init__(self, space: Built) -> None:
        self.space = space
        self._example = space.example
        self._backward = True
        self._whole: list[tuple[int, ...]] | str | None = None

    def whole(self) -> str | None:
        """Return why a copy of the full model does not run, None where it does.

        One that cannot learn (losses that have no gradient) is run forward only; where a batch of one is too
        small (statistics of a batch), the example is taken twice.
        """
        if self._whole is None:
            example = self._example
            doubled = mapped(lambda x: torch.cat([x, x]) if _is_single(x) else x, example)
            trials = [(example, True), (example, False)]
            trials += [(doubled, True), (doubled, False)] if any(map(_is_single, tensors(example))) else []
            told = []
            for self._example, self._backward in trials:
                try:
                    self._whole = self._shapes(np.ones(self.space.length, dtype=np.uint8))
                    return None
                except Exception as error:
                    told.append(_line(error))
            self._example, self._whole = example, told[0]
        return self._whole if isinstance(self._whole, str) else None

    def wrong(self, genome: np.ndarray) -> str | None:
        """Return what is wrong with the compact model of a genome, None where nothing is or where the full
        model does not run either.
        """
        if self.whole() is not None:
            return None
        try:
            shapes = self._shapes(genome)
        except Exception as error:
            return f"the model does not run in training mode: {_line(error)}"
        return None if shapes == self._whole else "in training mode the outputs have other shapes"

    def _shapes(self, genome: np.ndarray) -> list[tuple[int, ...]]:
        """Run one training step without an update; return the shapes of the outputs."""
        model = self.space.build(genome)
        with own_random_numbers(model), mode(model, True), torch.enable_grad():
            outputs = tensors_in(outputs_of(model, mapped(_detached, self._example)))
            learned = [x.abs().sum() for x in outputs if x.requires_grad]
            if learned and self._backward:
                torch.autograd.backward(learned)
        return [tuple(x.shape) for x in outputs]


@contextmanager
def own_random_numbers(model: nn.Module) -> Iterator[None]:
    """Draw random numbers from seed 0, of torch, NumPy and Python; those of the caller go on afterwards where
    they were.
    """
    device = device_of(model)
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 models draw from it
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.default_generator.manual_seed(0)
            random.seed(0)
            np.random.seed(0)  # noqa: NPY002
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Refuse a model whose buffers or gradients change while copies of it are run: what the copies share with
    it is none of its registered attributes. They come back as they were.

    Raises:
        InputError: naming the first of them.
    """
    tensors = tensors_by_name(model)
    grads = {name: (t.grad, _content(t.grad)) for name, t in tensors.items() if t.is_leaf}
    buffers = {name: b.detach().clone() for name, b in model.named_buffers(remove_duplicate=False)}
    versions = {name: _version(t) for name, t in tensors.items() if name not in buffers}
    yield
    changed = []
    with torch.no_grad():
        for name, tensor in tensors.items():
            # layers of torch change their statistics without a new version
            is_other = name in versions and _version(tensor) != versions[name]
            if name in buffers and not _equal(tensor, buffers[name]):
                is_other = True
                tensor.copy_(buffers[name])
            if name in grads:
                before, content = grads[name]
                if tensor.grad is not before:
                    is_other = True
                    tensor.grad = before
                if before is not None and content is not None and not _equal(before, content):
                    is_other = True
                    before.copy_(content)
            changed += [name] if is_other else []
    if changed:
        raise InputError(
            f"model {type(model).__name__}: training a copy of it changes {changed[0]} of the model itself; "
            f"{EXPECTED}"
        )


EXPECTED = (
    "expected that forward reaches layers through attributes of the model, not through a global variable or "
    "a class"
)


def _is_single(tensor: Tensor) -> bool:
    return tensor.ndim > 0 and len(tensor) == 1


def _detached(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()  # a model may work in place


def _content(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None or tensor.is_sparse else tensor.detach().clone()


def _equal(one: Tensor, other: Tensor) -> bool:
    return bool(((one == other) | (one != one)).all())  # NaN stays NaN


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version


def _line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"
