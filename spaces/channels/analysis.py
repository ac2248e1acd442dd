"""From a traced model to its slice plan: rules give every value its labels, and labels that met become groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from spaces.base import Segment
from spaces.channels.labelling import Labelling
from spaces.channels.loci import Loci, Reason
from spaces.channels.plan import Attribute, AxisSlice, Frozen, Group, Operation, Role, SlicePlan, Tap, TensorSize
from spaces.channels.trace import Trace, canonical_names, tensors_by_name
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
        self.labels_of: dict[str, Any] = {}
        self.locus_of: dict[int, int] = {}
        for index, trace in enumerate(traces):
            graph = Labelling(self, trace, counts=index == 0)
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
