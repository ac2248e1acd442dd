"""int8 of an ONNX model: which of its operations are quantised, and how onnxruntime does it."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from evaluators.cost.onnx_extra import onnx_session

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

LAYERS = ("Conv", "Gather", "Gemm", "MatMul")
"""Operations with weights that onnxruntime computes in int8 on a CPU, and tables that are looked up in.

What has no int8 kernel there, or gains nothing, stays float: normalisations, softmax, GELU and its kind,
transposed convolutions, recurrent layers, products of two activations.
"""
CARRYING = (
    *("Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "LeakyRelu", "MaxPool", "Relu"),
    *("Reshape", "Resize", "Squeeze", "Transpose", "Unsqueeze"),
)
"""Operations that hand int8 on from layer to layer."""
_JOINING = ("Add", "Concat")
_WITHOUT_OUTPUT = ["Gemm", "MatMul"]  # they write floats as fast, with their bias


def processor() -> dict[str, Any]:
    """Return what the processor is called (``processor``), and whether it adds up products of 8 bits without
    saturation (``vnni``): others want weights of 7 bits.
    """
    known = torch.cpu.get_capabilities()
    architecture = str(known.get("architecture", ""))
    exact = known.get("avx512_vnni") or known.get("avx_vnni") or not architecture.startswith("x86")
    return {"processor": str(known.get("cpu_name") or architecture), "vnni": bool(exact)}


class Quantiser:
    """Quantises layers of one ONNX model, these or those; ranges of activations are measured once.

    onnxruntime's static quantisation with QuantizeLinear and DequantizeLinear around operations: activations
    uint8, weights int8 with a scale a channel, ranges from the smallest to the largest value. [P] What hands
    activations on is quantised where all that reads it is, too: else they would be rounded for nothing. [O]

    It holds files of its own until it is closed, so use it as a context.

    Args:
        content: the ONNX model.
        feeds: inputs of a session, a batch of samples each.
        reduce_range: weights of 7 bits, for processors whose sums of products saturate.
    """

    def __init__(self, content: bytes, feeds: Sequence[Mapping[str, np.ndarray]], reduce_range: bool) -> None:
        import onnx

        self.feeds, self.reduce_range = feeds, reduce_range
        self._graph = _Graph(onnx.load_from_string(content))
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="secateur-")))
        (self._folder / "float.onnx").write_bytes(content)
        with _quiet():
            from onnxruntime.quantization import quant_pre_process

            quant_pre_process(
                self._folder / "float.onnx",
                self._folder / "inferred.onnx",
                skip_optimization=True,  # the exporter has folded what there was to fold
                skip_symbolic_shape=True,
            )

    def __enter__(self) -> Quantiser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def layers(self) -> list[str]:
        """The names of the nodes that can be quantised, in the order of the graph."""
        return [node.name for node in self._graph.layers]

    def names(self, model: nn.Module) -> dict[str, str]:
        """Return node -> layer as the model that was exported calls it, as far as its weights tell."""
        return {node.name: self._graph.called(node, _parameters(model)) for node in self._graph.layers}

    def quantised(self, layers: Collection[str]) -> bytes:
        """Return the model with these layers, at least one, in int8."""
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        written = self._folder / "int8.onnx"
        with _quiet():
            quantize_static(
                self._folder / "inferred.onnx",
                written,
                _reader(self.feeds),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=[*LAYERS, *CARRYING],
                nodes_to_quantize=[*layers, *self._graph.carrying(layers)],
                per_channel=True,
                reduce_range=self.reduce_range,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options={"OpTypesToExcludeOutputQuantization": _WITHOUT_OUTPUT},
                calibration_cache_path=self._folder / "ranges.json",
            )
        return written.read_bytes()

    def by_harm(self, layers: Sequence[str], batches: int = 2) -> list[str]:
        """Return layers by how far each alone, in int8, moves the outputs of the first batches, the worst
        first. [O]
        """
        feeds = self.feeds[:batches]
        harm = {layer: difference(self._float, self.quantised([layer]), feeds) for layer in layers}
        return sorted(layers, key=lambda layer: (-np.nan_to_num(harm[layer], nan=np.inf), layer))

    def difference(self, content: bytes) -> float:
        """Return how far a model's outputs are from the float model's, relative to their size."""
        return difference(self._float, content, self.feeds)

    @property
    def _float(self) -> bytes:
        return (self._folder / "float.onnx").read_bytes()


def difference(expected: bytes, found: bytes, feeds: Sequence[Mapping[str, np.ndarray]]) -> float:
    """Return the Euclidean distance of what two ONNX models give over the length of what is expected."""
    ours, others = (onnx_session(content, torch.get_num_threads()) for content in (found, expected))
    apart = whole = 0.0
    for feed in feeds:
        for a, b in zip(ours.run(None, dict(feed)), others.run(None, dict(feed)), strict=True):
            a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
            apart, whole = apart + float(((a - b) ** 2).sum()), whole + float((b**2).sum())
    return (apart / whole) ** 0.5 if whole else apart**0.5


class _Graph:
    """Who reads what in an ONNX model."""

    def __init__(self, model: ModelProto) -> None:
        import onnx

        self._nodes = list(model.graph.node)
        self._weights = {one.name: one for one in model.graph.initializer}
        self._outputs = {one.name for one in model.graph.output}
        self._readers: dict[str, list[NodeProto]] = defaultdict(list)
        self._makers: dict[str, NodeProto] = {name: node for node in self._nodes for name in node.output}
        for node in self._nodes:
            for name in node.input:
                self._readers[name].append(node)
        floats = {n for n, one in self._weights.items() if one.data_type == onnx.TensorProto.FLOAT}
        self.layers = [node for node in self._nodes if node.op_type in LAYERS and _weight(node) in floats]

    def carrying(self, layers: Collection[str]) -> list[str]:
        """Return the nodes that hand int8 on where these layers are quantised."""
        chosen = {*layers, *(node.name for node in self._nodes if node.op_type in CARRYING)}
        while left := [n for n in self._nodes if n.name in chosen and not self._carries(n, chosen, layers)]:
            chosen -= {node.name for node in left}
        return sorted(chosen - {*layers})

    def _carries(self, node: NodeProto, chosen: Collection[str], layers: Collection[str]) -> bool:
        if node.name in layers:
            return True
        readers = [reader for name in node.output for reader in self._readers[name]]
        if not readers or self._outputs & {*node.output} or any(one.name not in chosen for one in readers):
            return False
        given = node.input if node.op_type in _JOINING else node.input[:1]
        makers = [self._makers.get(name) for name in given]
        return any(one is not None and one.name in chosen for one in makers) and not (
            self._weights.keys() & {*given}
        )

    def called(self, node: NodeProto, parameters: Mapping[str, str]) -> str:
        from onnx import numpy_helper

        name = _weight(node)
        known = parameters.get(_digest(numpy_helper.to_array(self._weights[name])), name)
        return known.removesuffix(".weight") if "." in known else node.name


def _weight(node: NodeProto) -> str:
    return node.input[0 if node.op_type == "Gather" else 1]


def _parameters(model: nn.Module) -> dict[str, str]:
    """Return the names of a model's parameters by what they hold, as they are and transposed."""
    held = {name: value.detach().cpu().numpy() for name, value in model.named_parameters()}
    return {_digest(array): name for name, value in held.items() for array in (value.T, value)}


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(f"{array.shape}".encode() + np.ascontiguousarray(array).tobytes()).hexdigest()


def _reader(feeds: Sequence[Mapping[str, np.ndarray]]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Feeds(CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(feeds)

        def get_next(self) -> Mapping[str, np.ndarray] | None:
            return next(self._left, None)

    return Feeds()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the user what onnxruntime tells the root logger, and the handler that this would get."""
    handler, before = logging.NullHandler(), logging.root.manager.disable
    logging.root.addHandler(handler)
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
        logging.root.removeHandler(handler)
