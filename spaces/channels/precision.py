"""Double precision for code that casts to single precision by name (``x.float()``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


@contextmanager
def widened(precise: bool) -> Iterator[None]:
    """Have casts to single precision give double precision, where that is wanted."""
    if not precise:
        yield
        return
    with _Widened():
        yield


class _Widened(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if given.get("dtype") is torch.float32:
            given = given | {"dtype": torch.float64}
        return func(*args, **given)
