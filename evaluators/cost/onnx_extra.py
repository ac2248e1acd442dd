"""What the export extra is needed for: ONNX of a model, from an exporter that keeps quiet, and sessions of
onnxruntime.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spaces.calling import mode
from spaces.errors import InputError
from spaces.outputs import flattened, tensors_in, uncached

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


def onnx_bytes(
    model: nn.Module, example: tuple[Tensor, ...], fixed: tuple[Tensor, ...] | None = None
) -> tuple[bytes, bool]:
    """Export a model in eval mode, for batches of any size; one that fixes its batch size with that.

    Args:
        model: whose modules' modes come back as they were.
        example: inputs of one forward call, at least 2 samples: torch takes a batch of 1 for a fixed one.
        fixed: inputs for a model that fixes its batch size; None: the example.

    Returns:
        The file's content, and whether its batch axis is dynamic.
    """
    batch = {0: torch.export.Dim("batch", min=1)}
    axes = tuple(batch if x.ndim and x.shape[0] == example[0].shape[0] else None for x in example)
    kinds = {parameter.kind for parameter in inspect.signature(model.forward).parameters.values()}
    # of *inputs the shapes are one argument
    shapes = (axes,) if inspect.Parameter.VAR_POSITIONAL in kinds else axes
    with uncached(model), mode(model, False), flattened(model, tensors_in), quiet_exporter():
        try:
            return _serialised(
                torch.onnx.export(model, example, dynamo=True, dynamic_shapes=shapes, verbose=False)
            ), True
        except Exception:  # torch raises whatever it likes
            return _serialised(torch.onnx.export(model, fixed or example, dynamo=True, verbose=False)), False


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
    """Keep the exporter's remarks on optional packages and deprecations of its own from the user's screen."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
