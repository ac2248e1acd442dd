"""Traces that were made before: most tests look at the same few networks, and ``torch.export`` takes half a
second for the smallest of them.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Hashable
from typing import Any

from torch import Tensor, nn

from spaces.calling import mode
from spaces.channels.trace import Trace, trace


class Traces:
    """Does what ``trace`` does, once for all models that are equal but for the values of their weights: these
    tracing does not look at. What cannot be pickled is traced each time.
    """

    def __init__(self) -> None:
        self._found: dict[Hashable, Trace] = {}

    def __call__(self, model: nn.Module, example: tuple[Tensor, ...], training: bool) -> Trace:
        try:
            with mode(model, training):
                key = _key(model, example)
        except Exception:  # each class refuses in a way of its own
            return trace(model, example, training)
        if key not in self._found:
            self._found[key] = trace(model, example, training)
        return self._found[key]


def _key(model: nn.Module, example: tuple[Tensor, ...]) -> Hashable:
    """Everything that decides a trace: structure, settings, code, and the form of weights and inputs."""
    written = io.BytesIO()
    _Form(written, [*model.parameters(), *model.buffers(), *example]).dump((model, example))
    code = tuple((type(module), type(module).forward) for module in model.modules())
    return written.getvalue(), code


class _Form(pickle.Pickler):
    """Writes of these tensors their form and which of them they are."""

    def __init__(self, file: io.BytesIO, tensors: list[Any]) -> None:
        super().__init__(file)
        self._places: dict[int, int] = {}
        for tensor in tensors:
            self._places.setdefault(id(tensor), len(self._places))

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or id(value) not in self._places:
            return None
        form = value.shape, value.stride(), value.dtype, value.device, value.requires_grad, type(value)
        return self._places[id(value)], *map(str, form)
