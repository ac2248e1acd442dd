"""What a traced model computes, as a short hash: an edited ``forward`` gives another one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from spaces.channels.trace import Trace


def program_digest(traces: Sequence[Trace]) -> str:
    """Return a hash of operators, arguments, constants and shapes of traced graphs.

    Names of layers, lines of source and stack traces are not part of it, nor are the values of parameters and
    buffers. It is equal in every process.
    """
    digest = hashlib.sha256()
    for trace in traces:
        for line in _lines(trace.graph, trace):
            digest.update(line.encode() + b"\n")
    return digest.hexdigest()[:16]


def _lines(module: fx.GraphModule, trace: Trace | None) -> list[str]:
    """Return a line a node: what it does, and to which nodes by their places in the graph."""
    places: dict[fx.Node, int] = {}
    lines = []
    for node in module.graph.nodes:
        places[node] = len(places)
        given = f"{_value(node.args, places)} {_value(node.kwargs, places)}"
        shape = _shape(trace.values.get(node.name)) if trace else ""
        lines.append(f"{node.op} {_target(module, node, trace)} {given} {shape}")
    return lines


def _target(module: fx.GraphModule, node: fx.Node, trace: Trace | None) -> str:
    """Return what a node calls; of state only that it is some, of constants their values."""
    if node.op == "placeholder":
        constant = trace.constants.get(node.name) if trace else None
        return "" if constant is None else _tensor(constant)
    if node.op == "get_attr":
        found = _attribute(module, str(node.target))
        if isinstance(found, fx.GraphModule):
            return "; ".join(_lines(found, None))
        return _tensor(found) if isinstance(found, Tensor) else repr(type(found))
    if callable(node.target) and hasattr(node.target, "__qualname__"):
        return f"{node.target.__module__}.{node.target.__qualname__}"
    return str(node.target) if node.op == "call_function" else ""


def _attribute(module: fx.GraphModule, path: str) -> Any:
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _value(value: Any, places: dict[fx.Node, int]) -> str:
    if isinstance(value, fx.Node):
        return f"%{places[value]}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item, places) for item in value)}]"
    if isinstance(value, slice):
        return _value([value.start, value.stop, value.step], places)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_value(item, places)}' for key, item in sorted(value.items()))}}}"
    return _tensor(value) if isinstance(value, Tensor) else str(value)


def _shape(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_shape(item) for item in value)}]"
    return f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else ""


def _tensor(value: Tensor) -> str:
    """Return shape, type and a hash of the values."""
    if value.is_meta:
        return _shape(value)
    raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return f"{_shape(value)} {hashlib.sha256(raw).hexdigest()[:16]}"
