"""Labelling: the rules are applied to every node of one graph, in order of execution."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from torch import Tensor, fx

from spaces.channels import rules
from spaces.channels.loci import Loci, Reason
from spaces.channels.plan import Role
from spaces.channels.rules import Labels
from spaces.channels.trace import Trace, source_line


class Notebook(Protocol):
    """What is common to all graphs of a model: where rules write down what they found."""

    loci: Loci

    def axis(self, tensor: str, dim: int, role: Role) -> np.ndarray: ...
    def record_cost(self, name: str, macs: int, axes: tuple[tuple[str, int], ...]) -> None: ...
    def record_tap(self, module: str, dim: int, atoms: np.ndarray) -> None: ...
    def drop_tap(self, module: str) -> None: ...


class Labelling:
    """The rules' context for one graph (implements :class:`spaces.channels.rules.Context`, whose docstrings tell what each method is for).

    Attributes:
        labels_of: labels of every node that gives a tensor (a list of them for several), by node name.
    """

    def __init__(self, notebook: Notebook, trace: Trace, counts: bool) -> None:
        self.notebook, self.trace, self.loci, self.counts = notebook, trace, notebook.loci, counts
        self.labels_of: dict[str, Any] = {}
        for node in trace.graph.graph.nodes:
            self._visit(node)

    def _visit(self, node: fx.Node) -> None:
        value = self.trace.values.get(node.name)
        if node.op == "output":
            for source in node.all_input_nodes:
                self.freeze(self.labels(source), "an output of the model", node)
        elif node.op == "placeholder":
            if isinstance(value, Tensor) and node.name not in self.trace.state:
                text = "a constant" if node.name in self.trace.constants else "an input of the model"
                self.labels_of[node.name] = self.plain(value.ndim, text, node)
        elif node.op == "call_function" and any(self._has_labels(s) for s in node.all_input_nodes):
            apply = rules.find(node.target)
            if apply is not None:
                self.labels_of[node.name] = apply(self, node)
            else:
                text = f"the operation {rules.operation_name(node.target)} is not known"
                label = self.freeze_inputs(node, text)
                self.labels_of[node.name] = (
                    [self.plain(v.ndim, text, node) if isinstance(v, Tensor) else None for v in value]
                    if isinstance(value, tuple | list)
                    else label
                )

    def _has_labels(self, node: fx.Node) -> bool:
        return node.name in self.labels_of or node.name in self.trace.state

    def labels(self, node: Any) -> Any:
        if node.name in self.labels_of:
            return self.labels_of[node.name]
        ndim = len(self.shape(node)) if isinstance(self.trace.values.get(node.name), Tensor) else 0
        tensor = self.trace.state.get(node.name)
        if tensor is None:
            return self.plain(ndim, "a value that does not depend on the inputs", node)
        # A parameter where no rule expects one: whoever asks freezes it whole, axis by axis.
        reason = self.reason("a parameter that is used in a way that is not known", node)
        for dim in range(ndim):
            self.loci.freeze(self.notebook.axis(tensor, dim, "own"), reason)
        return self.plain(ndim, reason.text, node)

    def shape(self, node: Any) -> tuple[int, ...]:
        value = self.trace.values[node.name]
        return tuple(value.shape) if isinstance(value, Tensor) else ()

    def value(self, argument: Any) -> Any:
        if isinstance(argument, fx.Node):
            return self.trace.values[argument.name]
        if isinstance(argument, list | tuple):
            return type(argument)(map(self.value, argument)) if isinstance(argument, tuple) else list(map(self.value, argument))
        return argument

    def tensor(self, argument: Any) -> str | None:
        return self.trace.state.get(argument.name) if isinstance(argument, fx.Node) else None

    def axis(self, tensor: str, dim: int, role: Role) -> np.ndarray:
        return self.notebook.axis(tensor, dim, role)

    def channels(self, labels: Labels, dim: int, node: fx.Node) -> np.ndarray:
        if any(size > 1 for d, size in enumerate(labels.shape) if d != dim):
            labels = self.freeze(labels, "channels on an axis that is not the layer's channel axis", node)
        size = self.shape(node.args[0])[dim]
        return np.broadcast_to(labels.ravel(), (size,)) if labels.size == 1 else labels.ravel()

    def reason(self, text: str, node: fx.Node) -> Reason:
        return Reason(text, source_line(node))

    def freeze(self, labels: Labels, text: str, node: fx.Node) -> Labels:
        for part in labels if isinstance(labels, list) else [labels]:
            if part is not None:
                self.loci.freeze(part, self.reason(text, node))
        return self.plain(np.ndim(labels) if not isinstance(labels, list) else 0, text, node)

    def plain(self, ndim: int, text: str, node: fx.Node) -> Labels:
        return np.full((1,) * ndim, self.loci.frozen(self.reason(text, node)), dtype=np.int64)

    def freeze_inputs(self, node: fx.Node, text: str) -> Labels:
        for source in node.all_input_nodes:
            tensor = self.tensor(source)
            if tensor is not None:
                for dim in range(len(self.shape(source))):
                    self.loci.freeze(self.axis(tensor, dim, "own"), self.reason(text, node))
            else:
                self.freeze(self.labels(source), text, node)
        return self.plain(len(self.shape(node)), text, node)

    def cost(self, node: fx.Node, name: str, macs: int, *axes: tuple[str, int]) -> None:
        if self.counts:
            self.notebook.record_cost(name, macs, axes)

    def tap(self, node: fx.Node, tensor: str, dim: int, atoms: np.ndarray) -> None:
        if not self.counts:
            return
        self.notebook.record_tap(tensor.rpartition(".")[0], dim, atoms)
        source = node.args[0]
        if (
            rules.operation_name(node.target).startswith("batch_norm")
            and isinstance(source, fx.Node)
            and len(source.users) == 1
            and len(source.args) > 1
        ):
            before = self.tensor(source.args[1])
            if before is not None:
                self.notebook.drop_tap(before.rpartition(".")[0])
