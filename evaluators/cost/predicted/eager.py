"""PyTorch, operation by operation as its dispatcher sees them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from evaluators.cost.latency import torch_threads, wait_for
from evaluators.cost.predicted.runtime import Operation, Piece, Runtime
from spaces.calling import Example, call, mode, placed

_COPIES, _COLD_BYTES = 8, 1 << 20
_QUEUED = 16
"""Calls that a GPU is given before it is waited for: in a network it does one while the next is sent, too."""
_OWN = "own"
"""A tensor of the model, of which every copy of an operation has another one."""


class TorchRuntime(Runtime):
    """PyTorch without compilation. [O]

    Operations are those of inference mode: convolutions, linear layers, attentions and norms as a whole. On a
    GPU every call is timed until the GPU has done it, so an operation takes as long as to send it or as to
    do it, whichever is longer.

    Args:
        threads: of the CPU.
        device: where models run.
    """

    def __init__(self, threads: int = 1, device: str = "cpu") -> None:
        self.name, self.threads, self.device = f"torch {torch.__version__}", threads, torch.device(device)
        if self.device.type == "cuda":
            self.name += f" on {torch.cuda.get_device_name(self.device)}"

    def prepared(self, model: nn.Module, inputs: Example) -> tuple[list[Operation], Callable[[], object]]:
        given = placed(inputs, self.device)
        model.to(self.device)
        with mode(model, False), torch.inference_mode(), _Recording() as recording:
            call(model, given)

        def once() -> None:
            with torch.inference_mode(), torch_threads(self.threads):
                call(model, given)
                wait_for(self.device)

        return recording.operations, once

    def pieces(self, operation: Operation) -> list[Piece]:
        try:
            function, given = _again(operation, 1, self.device)
            with torch.inference_mode():
                function(*given[0][0], **given[0][1])
        except Exception:  # it needs what only its network gives it: indices that fit a table
            return []
        own = sum(x.nbytes for x in _tensors(given[0]) if getattr(x, _OWN, False))
        copies = int(np.clip(_COLD_BYTES // max(1, own), 1, _COPIES))
        function, given = _again(operation, copies, self.device)
        rounds = 1 if self.device.type == "cpu" else -(-_QUEUED // copies)

        def once() -> None:
            with torch.inference_mode(), torch_threads(self.threads):
                for arguments, named in given * rounds:
                    function(*arguments, **named)
                wait_for(self.device)

        held = copies * sum(x.nbytes for x in _tensors(given[0]))
        return [Piece(once, copies * rounds, held=held)]


class _Recording(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        numbers: list[int] = []
        told = [str(function), _told(list(args), numbers), _told(dict(kwargs or {}), numbers)]
        self.operations.append(Operation(str(function).split(".")[1], json.dumps(told), tuple(numbers)))
        return function(*args, **(kwargs or {}))


def _told(given: Any, numbers: list[int]) -> Any:
    """Return arguments as plain data, with all their whole numbers in a list of their own."""
    match given:
        case Tensor():
            order = sorted(range(given.ndim), key=given.stride, reverse=True)
            numbers += given.shape
            own = isinstance(given, nn.Parameter) or not given.is_inference()
            return {"tensor": str(given.dtype).removeprefix("torch."), "order": order, _OWN: own}
        case bool() | float() | str() | None:
            return given
        case int():
            numbers.append(given)
            return {"number": None}
        case torch.device():
            return {"device": None}
        case list() | tuple():
            return [_told(one, numbers) for one in given]
        case dict():
            return {"named": {name: _told(one, numbers) for name, one in given.items()}}
    return {"torch": str(given).removeprefix("torch.")}


def _again(
    operation: Operation, copies: int, device: torch.device
) -> tuple[Callable[..., Any], list[tuple[list[Any], dict[str, Any]]]]:
    """Return an operation and arguments of other values on a device, so many times."""
    name, arguments, named = json.loads(operation.template)
    space, function, overload = name.split(".")
    made = []
    for _ in range(copies):
        numbers = iter(operation.numbers)
        made.append((_made(arguments, numbers, device), _made(named, numbers, device)))
    return getattr(getattr(getattr(torch.ops, space), function), overload), made


def _made(told: Any, numbers: Iterator[int], device: torch.device) -> Any:
    match told:
        case {"tensor": dtype, "order": order}:
            kind, sizes = getattr(torch, dtype), [next(numbers) for _ in order]
            laid = [sizes[axis] for axis in order]
            if kind.is_floating_point:
                values = torch.rand(laid, device=device).add(0.1)
            else:
                values = torch.ones(laid, device=device)
            made = values.to(kind).permute(sorted(range(len(order)), key=order.__getitem__))
            setattr(made, _OWN, told[_OWN])
            return made
        case {"number": None}:
            return next(numbers)
        case {"device": None}:
            return device
        case {"named": entries}:
            return {name: _made(one, numbers, device) for name, one in entries.items()}
        case {"torch": name}:
            return getattr(torch, name)
        case list():
            return [_made(one, numbers, device) for one in told]
    return told


def _tensors(given: Any) -> Iterator[Tensor]:
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, list | tuple):
        for one in given:
            yield from _tensors(one)
