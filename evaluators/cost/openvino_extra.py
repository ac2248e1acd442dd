"""What the openvino extra is needed for: models of OpenVINO, and calls of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from torch import Tensor

from evaluators.cost.onnx_extra import require_onnx
from spaces.calling import Example
from spaces.errors import InputError
from spaces.structures import tensors


def require_openvino(place: str) -> None:
    """Raise :class:`InputError` where OpenVINO, or what it takes to export for it, is missing."""
    require_onnx(place)
    if find_spec("openvino") is None:
        raise InputError(
            f"{place}: openvino not installed; expected the openvino extra: pip install secateur[openvino]"
        )


@cache
def openvino_core() -> Any:
    """Return OpenVINO's own entry, which takes longer to make than most models to compile."""
    import openvino

    return openvino.Core()


def openvino_call(exported: bytes, inputs: Example, threads: int = 1) -> Callable[[], Any]:
    """Return a call of OpenVINO on an ONNX file's content with these inputs; it returns the outputs."""
    model = openvino_model(exported, inputs)
    request = openvino_request(model, openvino_feed(model, inputs), threads)

    def once() -> list[np.ndarray]:
        request.infer()
        return [one.data for one in request.output_tensors]

    return once


def openvino_model(exported: bytes, inputs: Example) -> Any:
    """Return OpenVINO's model of an ONNX file for inputs of these shapes, as its own passes simplify it."""
    from openvino._offline_transformations import apply_moc_transformations

    model = openvino_core().read_model(exported)
    model.reshape(dict(zip(model.inputs, ([*x.shape] for x in openvino_feed(model, inputs)), strict=True)))
    apply_moc_transformations(model, cf=True)
    return model


def openvino_feed(model: Any, inputs: Example) -> list[np.ndarray]:
    """Return the arrays that a model is fed: by their names where it has them, else in their order."""
    names = [one.get_any_name() for one in model.inputs]
    if isinstance(inputs, Mapping) and all(isinstance(inputs.get(name), Tensor) for name in names):
        return [inputs[name].detach().cpu().numpy() for name in names]
    return [x.detach().cpu().numpy() for x in tensors(inputs)][: len(names)]


def openvino_request(model: Any, feed: Sequence[np.ndarray], threads: int = 1, counting: bool = False) -> Any:
    """Return a request of a model on the CPU, whose ``infer`` runs it on these arrays.

    Args:
        model: for inputs of their shapes.
        feed: the arrays.
        threads: that it may use.
        counting: whether it times every layer, too.
    """
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "PERF_COUNT": counting}
    request = openvino_core().compile_model(model, "CPU", settings).create_infer_request()
    for place, array in enumerate(feed):
        request.set_input_tensor(place, openvino.Tensor(np.ascontiguousarray(array)))
    return request
