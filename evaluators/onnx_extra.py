"""What the export extra is needed for: an exporter that keeps quiet, and sessions of onnxruntime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from spaces.errors import InputError

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
        raise InputError(f"{place}: {', '.join(missing)} not installed; expected the export extra: pip install secateur[export]")


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
