"""An ONNX model as a module of torch, so that it is measured as every model is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from evaluators.cost.onnx_extra import onnx_feed, onnx_session
from spaces.calling import Example, call, mode
from spaces.errors import InputError
from spaces.outputs import uncached
from spaces.structures import mapped, tensors

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class OnnxModel(nn.Module):
    """What onnxruntime computes, in the structure that the model gives which was exported.

    Args:
        content: the ONNX model.
        outputs: of the exported model, for any inputs.

    Raises:
        InputError: the outputs are not those of the ONNX model, one by one.
    """

    def __init__(self, content: bytes, outputs: Any) -> None:
        super().__init__()
        self._session: InferenceSession = onnx_session(content, torch.get_num_threads())
        self._outputs = outputs
        found, expected = len(self._session.get_outputs()), len(tensors(outputs))
        if found != expected:
            raise InputError(f"onnx: {found} outputs; expected {expected}, as the model has tensors")

    def forward(self, *places: Any, **names: Any) -> Any:
        given = self._session.run(None, onnx_feed(self._session, names or places))
        found = iter([torch.from_numpy(np.asarray(value)) for value in given])
        return mapped(lambda _: next(found), self._outputs)


def structure(model: nn.Module, example: Example) -> Any:
    """Return what a model gives in eval mode, without caches."""
    with uncached(model), mode(model, False), torch.no_grad():
        return call(model, example)
