"""A copy of a model in double precision, of which verification cuts its smaller models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spaces.calling import Inputs, call, mode
from spaces.channels.precision import widened
from spaces.channels.slicing import cloned
from spaces.channels.trace import tensors_by_name
from spaces.outputs import outputs_of
from spaces.structures import mapped


class Doubled:
    """Lends its parameters: what a smaller model has whole, and all that the masked one has, is not copied.

    A model that writes to its parameters while it computes (``max_norm`` of an embedding) is found out by
    their versions; from then on everything is copied.

    Attributes:
        lends: whether it still does.
    """

    def __init__(self, model: nn.Module) -> None:
        self._source = model
        self.lends = True
        self._last: tuple[tuple[Any, ...], Any] | None = None
        self._copy()

    def outputs(
        self,
        build: Callable[[nn.Module, bool], nn.Module],
        reference: Callable[[Mapping[str, Tensor], bool], Callable[..., Any]],
        inputs: Inputs,
        key: tuple[Any, ...],
        casts: bool = True,
    ) -> tuple[Any, Any]:
        """Return what the smaller model and the masked one give, both in eval mode.

        Args:
            build: makes the smaller model of the copy; its second argument is whether that lends.
            reference: makes the masked model of tensors by name, likewise.
            inputs: of both.
            key: says which masked model that is: what it gave last is not computed again.
            casts: whether something may be cast to single precision by name.
        """
        given = mapped(double, inputs)
        try:
            compact = build(self.model, self.lends)
            with mode(compact, False), torch.no_grad(), widened(casts):
                smaller = outputs_of(compact, given)
                if self._last is None or self._last[0] != key:
                    self._last = key, call(reference(self.tensors, self.lends), given)
        except Exception:
            if not self._is_written():
                raise
        else:
            if not self._is_written():
                return smaller, self._last[1]
        self.lends, self._last = False, None
        self._copy()
        return self.outputs(build, reference, inputs, key, casts)

    def _copy(self) -> None:
        # what becomes a double is copied by that, once; the rest here
        self.model = cloned(self._source, lent=True).double()
        for own, source in zip(self.model.parameters(), self._source.parameters(), strict=True):
            if own.layout == torch.strided and own.data_ptr() == source.data_ptr():
                own.data = own.data.clone()
        self.tensors = tensors_by_name(self.model)
        self._versions = versions(self.model)

    def _is_written(self) -> bool:
        return self.lends and versions(self.model) != self._versions


def versions(model: nn.Module) -> list[int]:
    """Return how often each parameter was written to."""
    return [parameter._version for parameter in model.parameters()]


def double(value: Any) -> Any:
    """Return a value in double precision, if it is a tensor of floats."""
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
