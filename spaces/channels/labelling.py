"""Labelling: the rules are applied to every node of one graph, in order of execution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor, fx

from spaces.channels import rules
from spaces.channels.literals import Literal, Pin
from spaces.channels.loci import Loci, Reason
from spaces.channels.plan import Role
from spaces.channels.rules import Label
from spaces.channels.rules.creation import UNIFORM
from spaces.channels.trace import Trace, is_within, module_path, source_line


class Notebook(Protocol):
    """What is common to all graphs of a model: where rules write down what they found."""

    loci: Loci

    def axis(self, tensor: str, dim: int, role: Role) -> np.ndarray: ...
    def promote(self, label: Label, role: Role) -> None: ...
    def inherit(self, label: Label, parts: list[Label]) -> None: ...
    def record_cost(self, name: str, macs: int, labels: tuple[Label, ...], path: str) -> None: ...
    def record_tap(self, path: str, tensor: str, dim: int, label: Label, at_input: bool) -> bool: ...
    def drop_tap(self, path: str) -> None: ...
    def record_literal(self, literal: Literal) -> None: ...
    def record_pin(self, pin: Pin) -> None: ...
    def record_step(self, step: int, label: Label) -> None: ...
    def record_attribute(self, path: str, kind: type | tuple[type, ...], name: str, label: Label) -> bool: ...


class Labelling:
    """The rules' context for one graph (implements :class:`spaces.channels.rules.Context`, whose docstrings
    tell what each method is for).

    Attributes:
        labels_of: labels of every node that gives a tensor (a list of them for several), by node name.
        live: nodes that depend on an input of the model.
        seen: nodes on which an output depends, or that change something. What the others do with channels
            changes nothing (attention weights that nothing reads).
    """

    def __init__(self, notebook: Notebook, trace: Trace, counts: bool) -> None:
        self.notebook, self.trace, self.loci, self.counts = notebook, trace, notebook.loci, counts
        self.labels_of: dict[str, Any] = {}
        self.live: set[fx.Node] = set()
        self.seen: set[fx.Node] = set()
        for node in reversed(trace.graph.graph.nodes):
            if node.op == "output" or _changes_something(node) or node in self.seen:
                self.seen |= {node, *node.all_input_nodes}
        for node in trace.graph.graph.nodes:
            is_input = (
                node.op == "placeholder" and node.name not in trace.state and node.name not in trace.constants
            )
            if is_input or any(source in self.live for source in node.all_input_nodes):
                self.live.add(node)
            self._visit(node)

    def _visit(self, node: fx.Node) -> None:
        if node.op == "output":
            for source in node.all_input_nodes:
                for label in self._flat(self.labels(source)):
                    self.freeze(label, "an output of the model", node)
        elif node.op == "placeholder":
            if node.name not in self.trace.state:
                text = "a constant" if node.name in self.trace.constants else "an input of the model"
                self.labels_of[node.name] = self._nothing(node, text)
        elif node.op == "call_function" and (
            any(self._has_labels(s) for s in node.all_input_nodes) or self._is_uniform(node)
        ):
            self.labels_of[node.name] = self._labelled(node)

    def _labelled(self, node: fx.Node) -> Any:
        """Apply the rule of an operation. Where there is none, or it fails, what the operation touches is
        frozen: a rule that meets a case its author did not think of ends no search.
        """
        name, apply = rules.operation_name(node.target), rules.find(node.target)
        if apply is None:
            return self.freeze_inputs(node, f"the operation {name} is not known")
        try:
            return apply(self, node)
        except Exception as error:
            told = next(iter(str(error).splitlines()), "")
            return self.freeze_inputs(node, f"the rule of {name} failed ({type(error).__name__}: {told})")

    def _has_labels(self, node: fx.Node) -> bool:
        return node.name in self.labels_of or node.name in self.trace.state

    def _is_uniform(self, node: fx.Node) -> bool:
        return rules.operation_name(node.target).split(".")[0] in UNIFORM and isinstance(
            self.trace.values.get(node.name), Tensor
        )

    def _flat(self, labels: Any) -> list[Label]:
        return [label for part in labels for label in part] if isinstance(labels, list) else list(labels)

    def _nothing(self, node: fx.Node, text: str) -> Any:
        value, label = self.trace.values.get(node.name), self.plain(text, node)
        if isinstance(value, tuple | list):
            return [(label,) * v.ndim if isinstance(v, Tensor) else () for v in value]
        return (label,) * value.ndim if isinstance(value, Tensor) else ()

    def labels(self, node: Any) -> Any:
        if node.name in self.labels_of:
            return self.labels_of[node.name]
        tensor = self.trace.state.get(node.name)
        if tensor is None:
            return self._nothing(node, "a value that does not depend on the inputs")
        return tuple(self.notebook.axis(tensor, dim, "own") for dim in range(len(self.shape(node))))

    def shape(self, node: Any) -> tuple[int, ...]:
        value = self.trace.values[node.name]
        return tuple(value.shape) if isinstance(value, Tensor) else ()

    def value(self, argument: Any) -> Any:
        if isinstance(argument, fx.Node):
            return self.trace.values[argument.name]
        if isinstance(argument, list | tuple):
            return (
                type(argument)(map(self.value, argument))
                if isinstance(argument, tuple)
                else list(map(self.value, argument))
            )
        return argument

    def tensor(self, argument: Any) -> str | None:
        return self.trace.state.get(argument.name) if isinstance(argument, fx.Node) else None

    def made_of(self, node: Any) -> str | None:
        waiting = [node] if isinstance(node, fx.Node) and node not in self.live else []
        for source in waiting:  # which become more on the way
            if (name := self.tensor(source)) is not None:
                return name
            waiting += source.all_input_nodes
        return None

    def axis(self, node: Any, dim: int, role: Role) -> Label:
        tensor = self.tensor(node)
        label: Label = self.labels(node)[dim] if tensor is None else self.notebook.axis(tensor, dim, role)
        self.notebook.promote(label, role)
        return label

    def plain(self, text: str, node: fx.Node) -> Label:
        return self.loci.plain(Reason(text, source_line(node)))

    def freeze(self, label: Label, text: str, node: fx.Node) -> Label:
        if node in self.seen:
            self.loci.freeze(label, Reason(text, source_line(node)))
        return self.plain(text, node)

    def freeze_inputs(self, node: fx.Node, text: str) -> Any:
        for source in node.all_input_nodes:
            for label in self._flat(self.labels(source)):
                self.freeze(label, text, node)
        return self._nothing(node, text)

    def split(self, label: Label, sizes: Sequence[int], node: fx.Node) -> list[Label]:
        parts = self.loci.split(
            label, sizes, Reason("a part of an axis that does not vary", source_line(node))
        )
        self.notebook.inherit(label, [part for part in parts if part.size > 1])
        return parts

    def meet(self, first: Label, second: Label) -> Label:
        self.loci.unite(first, second)
        return first if first.size > 1 else second

    def literal(self, node: fx.Node, value: Any, label: Label, place: int | None = None) -> None:
        if isinstance(value, int) and label.size > 1:
            name = "" if place is None else node.name
            self.notebook.record_literal(
                Literal(module_path(node), value, label, source_line(node), name, place or 0, not self.counts)
            )

    def pinned(self, node: fx.Node, label: Label, text: str) -> None:
        if label.size > 1:
            self.notebook.record_pin(Pin(module_path(node), label, Reason(text, source_line(node))))

    def attribute(self, node: fx.Node, kind: type | tuple[type, ...], name: str, label: Label) -> bool:
        return self.notebook.record_attribute(module_path(node), kind, name, label)

    def step(self, step: int, label: Label) -> None:
        if step > 1 and label.size > 1:
            self.notebook.record_step(step, label)

    def cost(self, node: fx.Node, name: str, macs: int, *labels: Label) -> None:
        if self.counts:
            batch = self.trace.batch if node in self.live else 1
            self.notebook.record_cost(
                name, -(-macs // batch), tuple(label for label in labels if label.size > 1), module_path(node)
            )

    def tap(self, node: fx.Node, tensor: str, dim: int, label: Label, at_input: bool = False) -> None:
        path, source = module_path(node), node.args[0]
        if not self.counts or node not in self.live or not self._is_hookable(node, path, at_input):
            return
        if not self.notebook.record_tap(path, tensor, dim, label, at_input) or at_input:
            return
        # a BatchNorm right behind its layer shows the same channels, and closer to what the next layer gets
        is_norm = rules.operation_name(node.target).startswith("batch_norm")
        if is_norm and isinstance(source, fx.Node) and len(source.users) == 1 and len(source.args) > 1:
            before = self.tensor(source.args[1])
            if before is not None:
                self.notebook.drop_tap(module_path(source))

    def _is_hookable(self, node: fx.Node, path: str, at_input: bool) -> bool:
        """Whether a hook on the module sees this value, sample by sample, as criteria look at it."""
        source = node.args[0]
        if self.shape(source if at_input else node)[:1] != (self.trace.batch,):
            return False
        # a hook sees what comes into the module and what goes out of it
        beyond = [source] if at_input else [*node.users]
        return not any(isinstance(other, fx.Node) and is_within(other, path) for other in beyond)


def _changes_something(node: fx.Node) -> bool:
    return bool(getattr(getattr(node.target, "_schema", None), "is_mutable", False))
