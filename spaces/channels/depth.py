"""Depth: residual blocks that can be left out as a whole, because what they give fits where what they get
would stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from torch import Tensor, fx, nn

from spaces.channels.loci import Loci
from spaces.channels.trace import Trace
from spaces.errors import InputError

DEPTH = "depth"
"""Name of the segment: a locus a block."""
IS_THERE = "__class__"
"""The attribute of a block that is or is not there: with no kept position the module becomes a :class:`Skip`.
"""


class Skip(nn.Module):
    """Hands its first argument on."""

    def forward(self, x: Any, *others: Any, **options: Any) -> Any:
        return x


@dataclass(frozen=True)
class Block:
    """A module that can be left out: its name, the graph value that it gives, and the one that takes its
    place.
    """

    path: str
    output: str
    source: str


def chosen(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Return the names of the modules that match, in order.

    Raises:
        InputError: a pattern that matches none, or modules within each other.
    """
    names = [name for name, _ in model.named_modules() if name]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(f"space.depth: {pattern!r} matches no module; there are {', '.join(names[:20])}")
    # a star also matches dots: of modules within each other the outer one is meant
    found: list[str] = []
    for name in names:
        if any(fnmatchcase(name, pattern) for pattern in patterns) and not any(
            name.startswith(f"{outer}.") for outer in found
        ):
            found.append(name)
    return found


def examine(trace: Trace, path: str, labels_of: dict[str, Any], loci: Loci) -> Block | str:
    """Return how a module can be left out, or why it cannot."""
    nodes = [node for node in trace.graph.graph.nodes if node.op == "call_function" and path in _paths(node)]
    if _called_again(trace, path):
        return "it is called more than once"
    if not nodes:
        return "it is not called"
    outputs = _outputs(nodes, trace)
    if len(outputs) != 1:
        return f"it gives {len(outputs)} values"
    # what stands in for the block's output is one of the values that the block gets, and only one may fit
    inside = {*nodes}
    sources = dict.fromkeys(source for n in nodes for source in n.all_input_nodes if source not in inside)
    fitting = [
        s for s in sources if s.name not in trace.state and _fits(s, outputs[0], trace, labels_of, loci)
    ]
    if len(fitting) != 1:
        return "what it gives has not the channels of what it gets"
    return Block(path, outputs[0].name, fitting[0].name)


def _outputs(nodes: Sequence[fx.Node], trace: Trace) -> list[fx.Node]:
    """Return those of the nodes whose tensors are read by others."""
    inside = {*nodes}
    return [
        node
        for node in nodes
        if any(user not in inside for user in node.users) and isinstance(trace.values.get(node.name), Tensor)
    ]


def _paths(node: fx.Node) -> set[str]:
    return {path for path, _ in (node.meta.get("nn_module_stack") or {}).values()}


def _called_again(trace: Trace, path: str) -> bool:
    return any(p.startswith(f"{path}@") for node in trace.graph.graph.nodes for p in _paths(node))


def _fits(source: fx.Node, output: fx.Node, trace: Trace, labels_of: dict[str, Any], loci: Loci) -> bool:
    a, b = trace.values.get(source.name), trace.values.get(output.name)
    if not isinstance(a, Tensor) or not isinstance(b, Tensor) or a.shape != b.shape or a.dtype != b.dtype:
        return False
    pairs = list(zip(labels_of.get(source.name, ()), labels_of.get(output.name, ()), strict=False))
    return len(pairs) == a.ndim and all(_same(x, y, loci) for x, y in pairs)


def _same(first: np.ndarray, second: np.ndarray, loci: Loci) -> bool:
    a, b = np.broadcast_arrays(first, second)
    return all(loci.resolve(x) == loci.resolve(y) for x, y in zip(a.tolist(), b.tolist(), strict=True))
