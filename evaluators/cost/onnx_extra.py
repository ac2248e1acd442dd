"""What the export extra is needed for: ONNX of a model, from an exporter that keeps quiet, and sessions of
onnxruntime.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from spaces.calling import Example, arguments_of, mode
from spaces.errors import InputError
from spaces.outputs import flattened, tensors_in, uncached
from spaces.structures import samples, tensors

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def onnx_session(exported: bytes | str, threads: int = 1) -> InferenceSession:
    """Return a session of onnxruntime on the CPU for an ONNX model (bytes, or the path of a file).

    Raises:
        InputError: the export extra is not installed.
    """
    require_onnx("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    return onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])


def require_onnx(place: str) -> None:
    """Raise :class:`InputError` where a package of the export extra is missing."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"{place}: {', '.join(missing)} not installed; expected the export extra: pip install "
            f"secateur[export]"
        )


def onnx_bytes(model: nn.Module, example: Example, fixed: Example | None = None) -> tuple[bytes, bool]:
    """Export a model in eval mode, for batches of any size; one that fixes its batch size with that.

    Args:
        model: whose modules' modes come back as they were.
        example: inputs of one forward call, at least 2 samples: torch takes a batch of 1 for a fixed one.
        fixed: inputs for a model that fixes its batch size; None: the example.

    Returns:
        The file's content, and whether its batch axis is dynamic.
    """
    with uncached(model), mode(model, False), flattened(model, tensors_in), quiet_exporter():
        try:
            return _exported(model, example, _shapes(model, example)), True
        except Exception:  # torch raises whatever it likes
            return _exported(model, fixed or example), False


def onnx_feed(session: InferenceSession, inputs: Example) -> dict[str, Any]:
    """Return the arrays that a session is fed for the inputs of one forward call: by their names where the
    file has them, else in their order.
    """
    names = [given.name for given in session.get_inputs()]
    arrays = [x.detach().cpu().numpy() for x in tensors(inputs)]
    if isinstance(inputs, Mapping) and all(isinstance(inputs.get(name), Tensor) for name in names):
        return {name: inputs[name].detach().cpu().numpy() for name in names}
    return dict(zip(names, arrays[: len(names)], strict=True))


def _shapes(model: nn.Module, example: Example) -> Any:
    """Return which axes of the inputs are of any size: the first, where it is as long as the batch."""
    batch, count = {0: torch.export.Dim("batch", min=1)}, samples(example)

    def axes(x: Any) -> Any:
        return batch if isinstance(x, Tensor) and x.ndim and len(x) == count else None

    if isinstance(example, Mapping):
        return tree_map(axes, dict(inspect.signature(model.forward).bind(**example).arguments))
    kinds = {parameter.kind for parameter in inspect.signature(model.forward).parameters.values()}
    places = tree_map(axes, example)
    # of *inputs the shapes are one argument
    return (places,) if inspect.Parameter.VAR_POSITIONAL in kinds else places


def _exported(model: nn.Module, example: Example, shapes: Any = None) -> bytes:
    places, names = arguments_of(example)
    return _serialised(
        torch.onnx.export(
            model, places, kwargs=names or None, dynamo=True, dynamic_shapes=shapes, verbose=False
        )
    )


def _serialised(program: torch.onnx.ONNXProgram | None) -> bytes:
    assert program is not None
    model = program.model_proto
    for graph in (model.graph, *model.functions):
        for node in graph.node:
            del node.metadata_props[:]  # stack traces, with the paths of the machine that exported it
    content: bytes = model.SerializeToString()
    return content


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Keep the exporter's remarks on optional packages, deprecations and constants from the user's screen."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
