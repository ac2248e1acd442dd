"""OpenVINO on the CPU, operation by operation."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from torch import nn

from evaluators.cost.latency import export
from evaluators.cost.openvino_extra import openvino_feed, openvino_model, openvino_request, require_openvino
from evaluators.cost.predicted.openvino_graphs import alone, operations
from evaluators.cost.predicted.runtime import Operation, Piece, Runtime
from spaces.calling import Example

_COUNTED = 5
"""Calls in which layers are timed by themselves."""


class OpenVinoRuntime(Runtime):
    """OpenVINO on the CPU. [O]

    Operations are those of the graph that it executes, each with the nodes of the model that were fused into
    it, but for those that reorder a layout. What these cost an operation by itself is told apart.
    """

    def __init__(self, threads: int = 1) -> None:
        require_openvino("latency of OpenVINO")
        import openvino

        self.name, self.threads = f"openvino {openvino.__version__}", threads

    def prepared(self, model: nn.Module, inputs: Example) -> tuple[list[Operation], Callable[[], object]]:
        read = openvino_model(export(model, inputs), inputs)
        request = openvino_request(read, openvino_feed(read, inputs), self.threads)
        return operations(read, request.get_compiled_model().get_runtime_model()), request.infer

    def pieces(self, operation: Operation) -> list[Piece]:
        try:
            model, feed, copies, own = alone(operation)
            request = openvino_request(model, feed, self.threads, counting=True)
            share = _share_of_layout(request)
        except Exception:  # it needs what only its network gives it
            return []
        work = Piece(request.infer, copies, held=2 * own, share=1 - share)
        layout = Piece(request.infer, copies, layout=True, share=share)
        return [work, layout] if share else [work]


def _share_of_layout(request: Any) -> float:
    """Return how much of a call is spent on reordering, by the fastest of each layer in some calls."""
    took: dict[tuple[str, bool], float] = {}
    for _ in range(_COUNTED):
        request.infer()
        for layer in request.get_profiling_info():
            place = layer.node_name, layer.node_type == "Reorder"
            took[place] = min(took.get(place, inf), layer.real_time.total_seconds())
    reordering = sum(seconds for (_, reorders), seconds in took.items() if reorders)
    return reordering / max(sum(took.values()), 1e-6)
