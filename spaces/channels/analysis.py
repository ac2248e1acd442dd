"""From a traced model to its slice plan: rules give every axis of every value its labels, and labels that met become groups."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from spaces.base import Segment
from spaces.channels.depth import DEPTH, IS_THERE, Block, chosen, examine
from spaces.channels.labelling import Labelling
from spaces.channels.loci import Loci, Reason
from spaces.channels.plan import Attribute, AxisSlice, Frozen, Group, Operation, Role, SlicePlan, Tap, TensorSize
from spaces.channels.trace import Trace, canonical_names, tensors_by_name
from spaces.channels.wishes import matching
from spaces.errors import InputError


@dataclass(eq=False)
class _Axis:
    tensor: str
    dim: int
    role: Role
    atoms: np.ndarray


@dataclass(frozen=True, eq=False)
class Literal:
    """A number in the user's code that must be the number of kept positions of an axis.

    Attributes:
        path: of the innermost module whose code it stands in.
        value: in the full model.
        label: atoms of the axis.
        where: the line of the model's source.
    """

    path: str
    value: int
    label: np.ndarray
    where: str = ""


@dataclass(frozen=True)
class Follower:
    """An attribute of a module that becomes a number of kept positions, those of the literal with this index."""

    module: str
    name: str
    literal: int


class Analysis:
    """Runs the rules over the traces of one model (eval mode first, then training mode, which adds what only training uses).

    Attributes:
        labels_of: for the first trace, the labels of every node that gives a tensor, by node name.
        locus_of: representative atom -> locus in the genome, of the plan made last.
        literals: numbers in the code that must follow.
        followers: attributes that follow them; to be added to.
        blocks: that can be left out, in order; may be taken from.
        whole_blocks: those that cannot, and why.
    """

    def __init__(
        self,
        model: nn.Module,
        traces: Sequence[Trace],
        freeze: Sequence[str] = (),
        tie: Sequence[Sequence[str]] = (),
        split: Mapping[str, int] | None = None,
        depth: Sequence[str] = (),
    ) -> None:
        self.model, self.loci = model, Loci()
        self._tensors = tensors_by_name(model)
        self._paths = {id(module): name for name, module in model.named_modules()}
        self._axes: dict[tuple[str, int], _Axis] = {}
        self._by_atom: dict[int, _Axis] = {}
        self._operations: dict[tuple[str, str], tuple[int, tuple[np.ndarray, ...]]] = {}
        self._chosen = chosen(model, depth)
        self.blocks: list[Block] = []
        self.whole_blocks: dict[str, str] = {}
        self._taps: dict[str, tuple[int, np.ndarray]] = {}
        self._known: dict[tuple[str, str], np.ndarray] = {}
        self.literals: list[Literal] = []
        self.followers: list[Follower] = []
        self.labels_of: dict[str, Any] = {}
        self.locus_of: dict[int, int] = {}
        for index, trace in enumerate(traces):
            graph = Labelling(self, trace, counts=index == 0)
            if index == 0:
                self.labels_of = graph.labels_of
        for path in self._chosen:
            block = examine(traces[0], path, self.labels_of, self.loci)
            if isinstance(block, Block):
                self.blocks.append(block)
            else:
                self.whole_blocks[path] = block
        self._split: dict[str, int] = {}
        if freeze or tie or split:
            self._grant(freeze, tie, split or {})

    def axis(self, tensor: str, dim: int, role: Role) -> np.ndarray:
        """Return the atoms of an axis, made on first use."""
        key = (tensor, dim)
        if key not in self._axes:
            axis = self._axes[key] = _Axis(tensor, dim, role, self.loci.new(self._tensors[tensor].shape[dim]))
            if len(axis.atoms):
                self._by_atom[int(axis.atoms[0])] = axis
        return self._axes[key].atoms

    def promote(self, label: np.ndarray, role: Role) -> None:
        """Give the axis whose own atoms these are a role, unless it has one."""
        axis = self._by_atom.get(int(label[0])) if label.size else None
        if axis is not None and axis.role == "own" and np.array_equal(axis.atoms, label):
            axis.role = role

    def plan(self, refused: dict[str, str] | None = None) -> SlicePlan:
        """Return the plan of everything that is not frozen; `refused` freezes groups by name, with the reason."""
        segments, members = self._segments()
        if refused:
            self._freeze_segments(members, refused)
            segments, members = self._segments()
        while ragged := self._ragged(members):
            self._freeze_segments(members, dict.fromkeys(ragged, "a part of an axis of several divisions that is no grid"))
            segments, members = self._segments()
        by_axis = {key: self._loci(axis.atoms) for key, axis in self._axes.items()}
        by_axis = {key: loci for key, loci in by_axis.items() if (loci >= 0).any()}
        axes = tuple(
            AxisSlice(tensor, dim, level, self._axes[tensor, dim].role)
            for (tensor, dim), loci in by_axis.items()
            for level in (loci if loci.ndim > 1 else [loci])
        )
        taps = tuple(
            Tap(module, dim, loci)
            for module, (dim, label) in self._taps.items()
            # whoever looks at a compact model finds no module of a block that was left out
            if not any(f"{module}.".startswith(f"{block.path}.") for block in self.blocks)
            and (loci := self._loci(label)).ndim == 1
            and (loci >= 0).any()  # criteria know one locus a channel
        )
        if self.blocks:
            segments = [*segments, Segment(DEPTH, len(self.blocks))]
        gates = self.gates()
        operations = tuple(
            Operation(name, macs, tuple(loci for label in scaled if ((loci := self._loci(label)) >= 0).any()), gates.get(block, -1))
            for (name, block), (macs, scaled) in self._operations.items()
        )
        return SlicePlan(
            tuple(segments),
            axes,
            tuple(self._attributes(by_axis)),
            taps,
            operations,
            self._sizes(by_axis),
            self._groups(segments, axes, members),
            self._frozen(),
        )

    def gates(self) -> dict[str, int]:
        """Return the locus of every block that can be left out: they come last."""
        return {block.path: len(self.locus_of) + number for number, block in enumerate(self.blocks)}

    def node_loci(self) -> dict[str, list[np.ndarray | None]]:
        """Return the loci along every axis of every graph value that has channels, by the plan made last."""
        where = {}
        for name, labels in self.labels_of.items():
            if isinstance(labels, tuple):
                loci = [self._loci(label) if label.size > 1 else None for label in labels]
                if any(axis is not None and (axis >= 0).any() for axis in loci):
                    where[name] = loci
        return where

    def weight_loci(self) -> dict[str, list[np.ndarray | None]]:
        """Return the same for parameters that the rules met."""
        where: dict[str, list[np.ndarray | None]] = {}
        for (tensor, dim), axis in self._axes.items():
            where.setdefault(tensor, [None] * self._tensors[tensor].ndim)[dim] = self._loci(axis.atoms)
        return where

    def candidates(self, name: str) -> list[list[Follower]]:
        """Return, for every number that must follow a group, the attributes that hold it: those of the innermost modules first."""
        found: dict[tuple[str, bytes], dict[Follower, None]] = {}
        own = {locus for locus, segment in self._segment_of.items() if segment == name}
        for index, literal in enumerate(self.literals):
            loci = self._loci(literal.label)
            key = (literal.path, loci.tobytes())
            if key in found or not own & {*loci.ravel().tolist()}:
                continue
            holders = found[key] = {}
            path = literal.path
            while True:
                module = self.model.get_submodule(path)
                for field, value in vars(module).items():
                    first = value[0] if isinstance(value, tuple | list) and value else value
                    place = (self._paths.get(id(module), path), field)
                    if type(first) is int and first == literal.value and not field.startswith("_") and place not in self._known:
                        holders.setdefault(Follower(*place, index))
                if not path:
                    break
                path = path.rpartition(".")[0]
        return [list(holders) for holders in found.values() if holders]

    def _loci(self, label: np.ndarray) -> np.ndarray:
        """Return the loci of positions: ``(size,)``, or ``(levels, size)`` where some have several; -1: always kept."""
        resolved = [sorted(self.locus_of[r] for r in self.loci.resolve(a) if r in self.locus_of) for a in label.tolist()]
        levels = max((len(r) for r in resolved), default=0)
        if levels <= 1:
            return np.array([r[0] if r else -1 for r in resolved], dtype=np.int64)
        return np.array([[r[level] if level < len(r) else -1 for r in resolved] for level in range(levels)], dtype=np.int64)

    def _segments(self) -> tuple[list[Segment], dict[int, str]]:
        """Cut the loci into segments: those with the same places on the same axes form one. In order of execution."""
        signature: dict[int, list[tuple[str, int, int]]] = defaultdict(list)
        produced: dict[int, str] = {}
        for (tensor, dim), axis in self._axes.items():
            occurring = Counter(root for atom in axis.atoms.tolist() for root in self.loci.resolve(atom))
            for root, times in occurring.items():
                signature[root].append((tensor, dim, times))
                if axis.role == "out":
                    produced.setdefault(root, tensor)
        groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for root in sorted(produced):
            groups[(self.loci.birth(root), *signature[root])].append(root)
        segments: list[Segment] = []
        members: dict[int, str] = {}
        taken: dict[str, int] = defaultdict(int)
        self.locus_of = {}
        for roots in groups.values():
            if len(roots) < 2:
                self.loci.freeze(np.array(roots), Reason("a single channel, which always stays"))
                continue
            name = produced[roots[0]].rpartition(".")[0] or produced[roots[0]]
            tag = self.loci.tag_of(roots[0])
            name = f"{name}.{tag}" if tag else name
            taken[name] += 1
            name = name if taken[name] == 1 else f"{name}#{taken[name]}"
            parts = self._split.get(name, 1)
            for number, part in enumerate(np.array_split(roots, parts), 1):
                whole = name if parts == 1 else f"{name}/{number}"
                segments.append(Segment(whole, len(part)))
                for root in part.tolist():
                    self.locus_of[root] = len(self.locus_of)
                    members[root] = whole
        self._segment_of = {locus: members[root] for root, locus in self.locus_of.items()}
        return segments, members

    def _ragged(self, members: dict[int, str]) -> list[str]:
        """Return the groups of products that are no full grid: what is kept of them could not be told by counts."""
        ragged: dict[str, None] = {}
        labels = [axis.atoms for axis in self._axes.values()] + [label for _, scaled in self._operations.values() for label in scaled]
        for label in labels:
            loci = self._loci(label)
            if loci.ndim > 1:
                for columns in classes(loci, self._segment_of):
                    part = loci[:, columns]
                    cells, times = np.unique(part, axis=1, return_counts=True)
                    if cells.shape[1] != np.prod([len(np.unique(row)) for row in part]) or len(np.unique(times)) > 1:
                        ragged.update(dict.fromkeys(self._segment_of[locus] for locus in part.ravel().tolist() if locus >= 0))
        return list(ragged)

    def _freeze_segments(self, members: dict[int, str], reasons: dict[str, str]) -> None:
        lines: dict[str, str] = {}  # of the first number in the code that has to follow
        for literal in self.literals:
            for locus in self._loci(literal.label).ravel().tolist():
                if locus >= 0:
                    lines.setdefault(self._segment_of[locus], literal.where)
        for name, text in reasons.items():
            roots = np.array([root for root, segment in members.items() if segment == name], dtype=np.int64)
            self.loci.freeze(roots, Reason(text, lines.get(name, "")))

    def _grant(self, freeze: Sequence[str], tie: Sequence[Sequence[str]], split: Mapping[str, int]) -> None:
        """Do what the user wants of groups, which are named as they would be without it."""
        segments, members = self._segments()
        names = [segment.name for segment in segments]
        roots: dict[str, list[int]] = defaultdict(list)
        for root, name in members.items():
            roots[name].append(root)
        for pattern in freeze:
            self._freeze_by_name(pattern, roots)
        for patterns in tie:
            tied = list(dict.fromkeys(name for pattern in patterns for name in matching("space.tie", pattern, names)))
            for name in tied[1:]:
                if len(roots[name]) != len(roots[tied[0]]):
                    sizes = ", ".join(f"{n} has {len(roots[n])}" for n in (tied[0], name))
                    raise InputError(f"space.tie: groups of different sizes cannot keep the same places; {sizes}")
                self.loci.unite(np.array(roots[tied[0]]), np.array(roots[name]))
        for pattern, parts in split.items():
            for name in matching("space.split", pattern, names):
                if not 2 <= parts <= len(roots[name]):
                    raise InputError(
                        f"space.split: {name} has {len(roots[name])} channels; expected 2 to {len(roots[name])} parts, got {parts}"
                    )
                self._split[name] = parts

    def _freeze_by_name(self, pattern: str, roots: Mapping[str, list[int]]) -> None:
        producers: dict[str, list[_Axis]] = defaultdict(list)
        for axis in self._axes.values():
            if axis.role == "out":
                producers[axis.tensor.rpartition(".")[0]].append(axis)
        reason = Reason(f"frozen by the user ({pattern})")
        groups = [name for name in roots if fnmatchcase(name, pattern)]
        for name in groups:
            self.loci.freeze(np.array(roots[name]), reason)
        if not groups and not any(fnmatchcase(module, pattern) for module in producers):
            others = ", ".join(name for name in roots if name not in producers)
            raise InputError(
                f"space.freeze: {pattern!r} matches no layer; there are {', '.join(producers)}"
                + (f", and groups {others}" if others else "")
            )
        for module, axes in producers.items():
            if fnmatchcase(module, pattern):
                for axis in axes:
                    self.loci.freeze(axis.atoms, reason)

    def _attributes(self, by_axis: dict[tuple[str, int], np.ndarray]) -> list[Attribute]:
        found = {(a.module, a.name): a for (tensor, dim), loci in by_axis.items() for a in self._of_layer(tensor, dim, loci)}
        others = [(place, label) for place, label in self._known.items()]
        others += [((f.module, f.name), self.literals[f.literal].label) for f in self.followers]
        found |= {(path, IS_THERE): Attribute(path, IS_THERE, np.array([locus])) for path, locus in self.gates().items()}
        for (module, name), label in others:
            loci = self._loci(label)
            if (loci >= 0).any():
                found[module, name] = Attribute(module, name, loci)
        return list(found.values())

    def _of_layer(self, tensor: str, dim: int, loci: np.ndarray) -> list[Attribute]:
        path, _, name = tensor.rpartition(".")
        if ".parametrizations." in tensor:  # computed of these: the layer is the one above
            path, _, rest = tensor.partition(".parametrizations.")
            name = rest.partition(".")[0] if rest.endswith("1") or "original." in rest + "." else ""
        module = self.model.get_submodule(path)
        fields: tuple[str, ...] = ()
        if isinstance(module, _ConvNd) and name == "weight" and module.groups == 1:
            fields = ("out_channels",) if (dim == 0) != isinstance(module, _ConvTransposeNd) else ("in_channels",)
        elif isinstance(module, nn.Linear) and name == "weight":
            fields = ("out_features",) if dim == 0 else ("in_features",)
        elif isinstance(module, _BatchNorm) and name in ("weight", "running_mean"):
            fields = ("num_features",)
        elif isinstance(module, nn.Embedding) and dim == 1:
            fields = ("embedding_dim",)
        elif isinstance(module, nn.PReLU):
            fields = ("num_parameters",)
        return [Attribute(path, field, loci) for field in fields if dim < 2]

    def _sizes(self, by_axis: dict[tuple[str, int], np.ndarray]) -> tuple[TensorSize, ...]:
        first = canonical_names(self.model)
        parameters = {name for name, _ in self.model.named_parameters()}
        aliases: dict[str, list[str]] = defaultdict(list)
        for name, canonical in first.items():
            aliases[canonical].append(name)

        def size(name: str, tensor: Tensor) -> TensorSize:
            axes = tuple(by_axis.get((name, d)) for d in range(tensor.ndim))
            # tied to a tensor elsewhere it stays when the block goes
            gate = next((g for path, g in self.gates().items() if all(alias.startswith(f"{path}.") for alias in aliases[name])), -1)
            return TensorSize(name, tuple(tensor.shape), tensor.element_size(), name in parameters, axes, gate)

        return tuple(size(name, tensor) for name, tensor in self._tensors.items() if first[name] == name)

    def _groups(self, segments: list[Segment], axes: tuple[AxisSlice, ...], members: dict[int, str]) -> tuple[Group, ...]:
        names: dict[str, dict[str, None]] = defaultdict(dict)
        for axis in axes:
            for name in dict.fromkeys(self._segment_of[locus] for locus in axis.loci.tolist() if locus >= 0):
                names[name].setdefault(f"{axis.tensor}[{axis.dim}]")
        blocks = {DEPTH: tuple(block.path for block in self.blocks)}
        return tuple(Group(s.name, s.size, blocks.get(s.name, tuple(names[s.name]))) for s in segments)

    def _frozen(self) -> tuple[Frozen, ...]:
        found = []
        for axis in self._axes.values():
            if len(axis.atoms) == 1:
                continue
            reasons = {r for atom in axis.atoms.tolist() if (r := self.loci.reason(atom)) is not None}
            found += [Frozen(f"{axis.tensor}[{axis.dim}]", r.text, r.where) for r in sorted(reasons, key=str)]
        return tuple(found)

    def table(self) -> list[dict[str, Any]]:
        """Return every axis of every parameter with more than one position: its groups, or why it stays and where that was found."""
        rows = []
        first = canonical_names(self.model)
        for name, parameter in self.model.named_parameters():
            for dim, size in enumerate(parameter.shape):
                if size > 1 and first[name] == name:
                    rows.append({"axis": f"{name}[{dim}]", "size": size} | self._told(name, dim))
        return rows

    def _told(self, tensor: str, dim: int) -> dict[str, Any]:
        axis = self._axes.get((tensor, dim))
        if axis is None:
            kernel = isinstance(self.model.get_submodule(tensor.rpartition(".")[0]), _ConvNd) and dim > 1
            return {"groups": [], "reason": "positions of a kernel" if kernel else "no operation with a rule uses this axis", "where": ""}
        loci = self._loci(axis.atoms)
        groups = list(dict.fromkeys(self._segment_of[locus] for locus in loci.ravel().tolist() if locus >= 0))
        reasons = [r for atom in axis.atoms.tolist() if (r := self.loci.reason(atom)) is not None]
        if reasons:
            return {"groups": groups, "reason": reasons[0].text, "where": reasons[0].where}
        return {"groups": groups, "reason": "" if groups else "no layer puts out these positions", "where": ""}

    def record_cost(self, name: str, macs: int, labels: tuple[np.ndarray, ...], path: str) -> None:
        """Add the cost of one call in the module at `path`; a module that is used twice costs twice."""
        key = (name, next((block for block in self._chosen if f"{path}.".startswith(f"{block}.")), ""))
        before = self._operations.get(key, (0, ()))[0]
        self._operations[key] = (before + macs, labels)

    def record_tap(self, module: str, dim: int, label: np.ndarray) -> None:
        """Look at the output of `module`."""
        self._taps[module] = (dim, label)

    def drop_tap(self, module: str) -> None:
        """Look elsewhere: a normalisation follows."""
        self._taps.pop(module, None)

    def record_literal(self, path: str, value: int, label: np.ndarray, where: str) -> None:
        """Note a number in the code of the module at `path` that must follow."""
        self.literals.append(Literal(path, value, label, where))

    def record_attribute(self, path: str, kind: type | tuple[type, ...], name: str, label: np.ndarray) -> bool:
        """Have an attribute follow, where the module is of the kind that has it."""
        module = self.model.get_submodule(path)
        if not isinstance(module, kind):
            return False
        if label.size > 1:
            self._known[self._paths[id(module)], name] = label
        return True


def classes(loci: np.ndarray, segment_of: dict[int, str]) -> list[np.ndarray]:
    """Return the columns of ``(levels, size)`` loci, by which segments they belong to."""
    columns: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for column, own in enumerate(loci.T.tolist()):
        columns[tuple(segment_of.get(locus, "") for locus in own)].append(column)
    return [np.array(c) for c in columns.values()]
