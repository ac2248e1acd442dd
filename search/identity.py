"""What makes a run this run and no other: plain text that two calls can compare and a person can read."""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

_DEPTH = 8


def describe(name: str, value: object) -> dict[str, str]:
    """Flatten an object into lines of text: its class, and below it every attribute,
    ``strategy.population: 48``.

    Reads an object as it was constructed, so call it before the object is bound or started. The same object
    comes out the same in every process: no addresses, no order of sets, arrays by their contents.

    Args:
        name: what the lines begin with.
        value: a strategy, an evaluator, a list of them, a plain value.
    """
    lines: dict[str, str] = {}
    _describe(name, value, lines, _DEPTH)
    return lines


def _describe(name: str, value: object, lines: dict[str, str], depth: int) -> None:
    if value is None or isinstance(value, bool | int | float | str | bytes | Path | np.generic):
        lines[name] = str(value.value if isinstance(value, Enum) else value)
    elif isinstance(value, Enum):
        lines[name] = value.name
    elif isinstance(value, nn.Module):
        lines[name] = f"{_path(type(value))} {weights_digest(value)}"
    elif isinstance(value, Tensor | np.ndarray):
        lines[name] = array_digest(value)
    elif isinstance(value, functools.partial):
        _describe(name, (value.func, value.args, value.keywords), lines, depth)
    elif isinstance(value, type | types.FunctionType | types.BuiltinFunctionType | types.MethodType):
        lines[name] = _path(value)
    elif depth == 0:
        lines[name] = _path(type(value))
    elif isinstance(value, Mapping):
        lines[name] = "{}" if not value else _path(type(value))
        for key in sorted(value, key=str):
            _describe(f"{name}.{key}", value[key], lines, depth - 1)
    elif isinstance(value, set | frozenset):
        lines[name] = " ".join(sorted(str(item) for item in value))
    elif isinstance(value, list | tuple):
        if all(item is None or isinstance(item, bool | int | float | str) for item in value):
            lines[name] = ", ".join(str(item) for item in value)
        else:
            for index, item in enumerate(value):
                _describe(f"{name}.{index}", item, lines, depth - 1)
    else:
        lines[name] = _path(type(value))
        for key, attribute in sorted(getattr(value, "__dict__", {}).items()):
            _describe(f"{name}.{key.lstrip('_')}", attribute, lines, depth - 1)


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return ``key (was ..., is ...)`` for every line that is not the same in both, in the order of the
    lines.
    """
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return [f"{key} (was {_short(before.get(key))}, is {_short(now.get(key))})" for key in keys]


def _short(value: str | None) -> str:
    if value is None:
        return "absent"
    return value if len(value) <= 40 else f"{value[:37]}..."


def _path(thing: object) -> str:
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"


def array_digest(array: Tensor | np.ndarray) -> str:
    """Return a short hash of dtype, shape and contents."""
    digest = hashlib.sha256()
    _feed(digest, array)
    return digest.hexdigest()[:16]


def weights_digest(model: nn.Module) -> str:
    """Return a short hash of a model's parameters and buffers, with their names; ``-`` where it has none."""
    state = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        _feed(digest, state[name])
    return digest.hexdigest()[:16] if state else "-"


def _feed(digest: hashlib._Hash, array: Tensor | np.ndarray) -> None:
    digest.update(f"{array.dtype}{tuple(array.shape)}".encode())
    if isinstance(array, Tensor):
        array = array.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    digest.update(np.ascontiguousarray(array).tobytes())
