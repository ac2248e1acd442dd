"""From a traced model to its slice plan: rules give every value its labels, and labels that met become groups."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from spaces.base import Segment
from spaces.channels import rules
from spaces.channels.loci import Loci, Reason
from spaces.channels.plan import Attribute, AxisSlice, Frozen, Group, Operation, Role, SlicePlan, Tap, TensorSize
from spaces.channels.rules import Labels
from spaces.channels.trace import Trace, canonical_names, source_line, tensors_by_name
from spaces.errors import InputError


@dataclass(frozen=True, eq=False)
class _Axis:
    tensor: str
    dim: int
    role: Role
    atoms: np.ndarray


class Analysis:
    """Runs the rules over the traces of one model (eval mode first, then training mode, which adds what only training uses).

    Attributes:
        labels_of: for the first trace, the labels of every node that gives a tensor, by node name.
        locus_of: representative atom -> locus in the genome, of the plan made last.
    """

    def __init__(self, model: nn.Module, traces: Sequence[Trace], freeze: Sequence[str] = ()) -> None:
        self.model, self.loci = model, Loci()
        self._tensors = tensors_by_name(model)
        self._axes: dict[tuple[str, int], _Axis] = {}
        self._operations: dict[str, tuple[int, tuple[tuple[str, int], ...]]] = {}
        self._taps: dict[str, tuple[int, np.ndarray]] = {}
        self._tapped_by: dict[str, str] = {}
        self.labels_of: dict[str, Any] = {}
        self.locus_of: dict[int, int] = {}
        for index, trace in enumerate(traces):
            graph = _GraphRules(self, trace, counts=index == 0)
            if index == 0:
                self.labels_of = graph.labels_of
        for pattern in freeze:
            self._freeze_by_name(pattern)

    def axis(self, tensor: str, dim: int, role: Role) -> np.ndarray:
        """Return the atoms of an axis, made on first use."""
        key = (tensor, dim)
        if key not in self._axes:
            self._axes[key] = _Axis(tensor, dim, role, self.loci.new(self._tensors[tensor].shape[dim]))
        return self._axes[key].atoms

    def plan(self, refused: dict[str, str] | None = None) -> SlicePlan:
        """Return the plan of everything that is not frozen; `refused` freezes groups by name, with the reason."""
        segments, members, locus_of = self._segments()
        if refused:
            for segment in segments:
                if segment.name in refused:
                    roots = np.array([r for r, s in members.items() if s == segment.name], dtype=np.int64)
                    self.loci.freeze(roots, Reason(refused[segment.name]))
            segments, members, locus_of = self._segments()
        self.locus_of = locus_of

        def lookup(atoms: np.ndarray) -> np.ndarray:
            return np.array([locus_of.get(int(root), -1) for root in self.loci.find(atoms)], dtype=np.int64)

        found = [AxisSlice(a.tensor, a.dim, lookup(a.atoms), a.role) for a in self._axes.values()]
        axes = tuple(a for a in found if (a.loci >= 0).any())
        by_axis = {(a.tensor, a.dim): a.loci for a in axes}
        taps = tuple(Tap(module, dim, loci) for module, (dim, atoms) in self._taps.items() if ((loci := lookup(atoms)) >= 0).any())
        operations = tuple(
            Operation(name, macs, tuple(by_axis[a] for a in scaled if a in by_axis)) for name, (macs, scaled) in self._operations.items()
        )
        attributes = tuple(found for a in axes for found in self._attributes(a))
        return SlicePlan(
            tuple(segments),
            axes,
            attributes,
            taps,
            operations,
            self._sizes(by_axis),
            self._groups(segments, axes, locus_of, members),
            self._frozen(),
        )

    def _segments(self) -> tuple[list[Segment], dict[int, str], dict[int, int]]:
        """Cut the loci into segments: those with the same places on the same axes form one. In order of execution."""
        signature: dict[int, list[tuple[str, int]]] = defaultdict(list)
        produced: dict[int, str] = {}
        for (tensor, dim), axis in self._axes.items():
            for root in self.loci.find(axis.atoms).tolist():
                signature[root].append((tensor, dim))
                if axis.role == "out":
                    produced.setdefault(root, tensor)
        groups: dict[tuple[tuple[str, int], ...], list[int]] = defaultdict(list)
        for root in sorted(produced):
            if self.loci.reason(root) is None:
                groups[tuple(signature[root])].append(root)
        segments: list[Segment] = []
        members: dict[int, str] = {}
        locus_of: dict[int, int] = {}
        taken: dict[str, int] = defaultdict(int)
        for roots in groups.values():
            if len(roots) < 2:
                self.loci.freeze(np.array(roots), Reason("a single channel, which always stays"))
                continue
            name = produced[roots[0]].rpartition(".")[0] or produced[roots[0]]
            taken[name] += 1
            name = name if taken[name] == 1 else f"{name}#{taken[name]}"
            segments.append(Segment(name, len(roots)))
            for root in roots:
                locus_of[root] = len(locus_of)
                members[root] = name
        return segments, members, locus_of

    def _freeze_by_name(self, pattern: str) -> None:
        producers = {axis.tensor.rpartition(".")[0]: axis for axis in self._axes.values() if axis.role == "out"}
        if not any(fnmatchcase(module, pattern) for module in producers):
            raise InputError(f"space.freeze: {pattern!r} matches no layer; there are {', '.join(producers)}")
        for module, axis in producers.items():
            if fnmatchcase(module, pattern):
                self.loci.freeze(axis.atoms, Reason(f"frozen by the user ({pattern})"))

    def _attributes(self, axis: AxisSlice) -> list[Attribute]:
        path, _, name = axis.tensor.rpartition(".")
        module = self.model.get_submodule(path)
        fields: tuple[str, ...] = ()
        if isinstance(module, _ConvNd) and name == "weight":
            transposed = isinstance(module, _ConvTransposeNd)
            if module.groups > 1:
                fields = ("in_channels", "out_channels", "groups")
            else:
                fields = ("out_channels",) if (axis.dim == 0) != transposed else ("in_channels",)
        elif isinstance(module, nn.Linear) and name == "weight":
            fields = ("out_features",) if axis.dim == 0 else ("in_features",)
        elif isinstance(module, _BatchNorm) and name in ("weight", "running_mean"):
            fields = ("num_features",)
        elif isinstance(module, nn.PReLU):
            fields = ("num_parameters",)
        return [Attribute(path, field, axis.loci) for field in fields]

    def _sizes(self, by_axis: dict[tuple[str, int], np.ndarray]) -> tuple[TensorSize, ...]:
        first = canonical_names(self.model)
        parameters = {name for name, _ in self.model.named_parameters()}
        return tuple(
            TensorSize(name, tuple(t.shape), t.element_size(), name in parameters, tuple(by_axis.get((name, d)) for d in range(t.ndim)))
            for name, t in self._tensors.items()
            if first[name] == name
        )

    def _groups(
        self, segments: list[Segment], axes: tuple[AxisSlice, ...], locus_of: dict[int, int], members: dict[int, str]
    ) -> tuple[Group, ...]:
        segment_of = {locus: members[root] for root, locus in locus_of.items()}
        names: dict[str, list[str]] = defaultdict(list)
        for axis in axes:
            for name in dict.fromkeys(segment_of[locus] for locus in axis.loci.tolist() if locus >= 0):
                names[name].append(f"{axis.tensor}[{axis.dim}]")
        return tuple(Group(s.name, s.size, tuple(names[s.name])) for s in segments)

    def _frozen(self) -> tuple[Frozen, ...]:
        found = []
        for axis in self._axes.values():
            if len(axis.atoms) == 1:
                continue
            reasons = {r for atom in axis.atoms.tolist() if (r := self.loci.reason(atom)) is not None}
            found += [Frozen(f"{axis.tensor}[{axis.dim}]", r.text, r.where) for r in sorted(reasons, key=str)]
        return tuple(found)

    def record_cost(self, name: str, macs: int, axes: tuple[tuple[str, int], ...]) -> None:
        """Add the cost of one call; a module that is used twice costs twice."""
        before = self._operations.get(name, (0, ()))[0]
        self._operations[name] = (before + macs, axes)

    def record_tap(self, module: str, dim: int, atoms: np.ndarray) -> None:
        """Look at the output of `module`."""
        self._taps[module] = (dim, atoms)

    def drop_tap(self, module: str) -> None:
        """Look elsewhere: a normalisation follows."""
        self._taps.pop(module, None)


class _GraphRules:
    """The rules' context for one graph (implements :class:`spaces.channels.rules.Context`)."""

    def __init__(self, analysis: Analysis, trace: Trace, counts: bool) -> None:
        self.analysis, self.trace, self.loci, self.counts = analysis, trace, analysis.loci, counts
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
            self.loci.freeze(self.analysis.axis(tensor, dim, "own"), reason)
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
        return self.analysis.axis(tensor, dim, role)

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
            self.analysis.record_cost(name, macs, axes)

    def tap(self, node: fx.Node, tensor: str, dim: int, atoms: np.ndarray) -> None:
        if not self.counts:
            return
        self.analysis.record_tap(tensor.rpartition(".")[0], dim, atoms)
        source = node.args[0]
        if (
            rules.operation_name(node.target).startswith("batch_norm")
            and isinstance(source, fx.Node)
            and len(source.users) == 1
            and len(source.args) > 1
        ):
            before = self.tensor(source.args[1])
            if before is not None:
                self.analysis.drop_tap(before.rpartition(".")[0])


def macs(plan: SlicePlan) -> int:
    """Multiply-accumulates of the full model at batch 1."""
    return sum(operation.macs for operation in plan.operations)


def parameters(plan: SlicePlan) -> int:
    """Parameters of the full model."""
    return sum(math.prod(t.shape) for t in plan.tensors if t.trainable)
