"""onnxruntime on the CPU, operation by operation."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from evaluators.cost.latency import export
from evaluators.cost.onnx_extra import onnx_feed, require_onnx
from evaluators.cost.predicted.onnx_graphs import graph, operations
from evaluators.cost.predicted.runtime import Operation, Piece, Runtime
from spaces.calling import Example

_COPIES = 8
_REORDERS = ("ReorderInput", "ReorderOutput")


class OnnxRuntime(Runtime):
    """onnxruntime on the CPU. [O]

    Operations are those of its own graph after its fusions, but before it lays channels out in blocks, which
    depends on widths (a convolution of 45 channels is another kernel than one of 44). That is seen where an
    operation is run by itself: what reordering costs is told apart, since a whole network reorders only where
    its layouts meet.
    """

    def __init__(self, threads: int = 1) -> None:
        require_onnx("latency of onnxruntime")
        import onnxruntime

        self.name, self.threads = f"onnxruntime {onnxruntime.__version__}", threads

    def prepared(self, model: nn.Module, inputs: Example) -> tuple[list[Operation], Callable[[], object]]:
        content = export(model, inputs)
        session = self._session(content, "all")
        feed = onnx_feed(session, inputs)
        return self._operations(content, feed, "extended"), lambda: session.run(None, feed)

    def pieces(self, operation: Operation) -> list[Piece]:
        try:
            content, feed, _ = graph(operation)
            return [self._piece(one) for one in self._operations(content, feed, "all")]
        except Exception:  # it needs what only its network gives it: a size out of another operation
            return []

    def _piece(self, operation: Operation) -> Piece:
        content, feed, copies = graph(operation, _COPIES)
        session = self._session(content, "none")
        session.run(None, feed)
        layout, held = operation.kind in _REORDERS, 2 * len(content)
        return Piece(lambda: session.run(None, feed), copies, layout, held)

    def _operations(self, content: bytes, feed: Mapping[str, Any], level: str) -> list[Operation]:
        import onnx

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "optimised.onnx"
            session = self._session(content, level, file, f"{folder}/run")
            session.run(None, feed)
            events = json.loads(Path(session.end_profiling()).read_text())
            return operations(onnx.load(file), events, feed)

    def _session(
        self, content: bytes, level: str, optimised: Path | None = None, profile: str | None = None
    ) -> Any:
        import onnxruntime

        levels = onnxruntime.GraphOptimizationLevel
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 4
        options.graph_optimization_level = {
            "none": levels.ORT_DISABLE_ALL,
            "extended": levels.ORT_ENABLE_EXTENDED,
            "all": levels.ORT_ENABLE_ALL,
        }[level]
        if optimised and profile:
            options.optimized_model_filepath = str(optimised)
            options.enable_profiling, options.profile_file_prefix = True, profile
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
