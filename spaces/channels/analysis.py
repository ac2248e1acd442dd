"""From a traced model to its slice plan: rules give every axis of every value its labels, and labels that met
become groups.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from spaces.base import Segment
from spaces.channels.depth import DEPTH, IS_THERE, Block, chosen, examine
from spaces.channels.labelling import Labelling
from spaces.channels.loci import Reason
from spaces.channels.matching import Rewriting
from spaces.channels.numbered import Numbered
from spaces.channels.plan import Attribute, AxisSlice, Frozen, Group, Operation, SlicePlan, Tap, TensorSize
from spaces.channels.trace import Trace, canonical_names


class Analysis(Numbered):
    """Runs the rules over the traces of one model (eval mode first, then training mode, which adds what only
    training uses).

    Attributes:
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
        alike: Sequence[Sequence[tuple[str, int]]] | None = None,
    ) -> None:
        super().__init__(model, chosen(model, depth), traces)
        self.blocks: list[Block] = []
        self.whole_blocks: dict[str, str] = {}
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
        if alike is not None:
            self._even_out(alike)
        if freeze or tie or split:
            self._grant(freeze, tie, split or {})

    def plan(self, refused: dict[str, str] | None = None) -> SlicePlan:
        """Return the plan of everything that is not frozen; `refused` freezes groups by name, with the
        reason.
        """
        segments, members = self._segments()
        if refused:
            self._freeze_segments(members, refused)
            segments, members = self._segments()
        # freezing a group can leave another one without a grid, so until none is left
        while ragged := self._ragged():
            self._freeze_segments(
                members, dict.fromkeys(ragged, "a part of an axis of several divisions that is no grid")
            )
            segments, members = self._segments()
        # from here on loci are final; an axis of several levels (heads and places) has a slice for each
        by_axis = {key: self._loci(axis.atoms) for key, axis in self._axes.items()}
        by_axis = {key: loci for key, loci in by_axis.items() if (loci >= 0).any()}
        axes = tuple(
            AxisSlice(tensor, dim, level, self._axes[tensor, dim].role)
            for (tensor, dim), loci in by_axis.items()
            for level in (loci if loci.ndim > 1 else [loci])
        )
        if self.blocks:
            segments = [*segments, Segment(DEPTH, len(self.blocks))]
        gates = self.gates()
        operations = tuple(
            Operation(
                name,
                macs,
                tuple(loci for label in scaled if ((loci := self._loci(label)) >= 0).any()),
                gates.get(block, -1),
            )
            for (name, block), (macs, scaled) in self._operations.items()
        )
        self._axes_of_plan = by_axis
        self._plan = SlicePlan(
            tuple(segments),
            axes,
            tuple(self._attributes(by_axis)),
            self._tapped(),
            operations,
            self._sizes(by_axis),
            self._groups(segments, axes),
            self._frozen(),
            self._steps_of_segments(),
        )
        return self._plan

    def followed(self) -> SlicePlan:
        """Return the plan made last with the attributes that follow now, on which nothing else depends."""
        return replace(self._plan, attributes=tuple(self._attributes(self._axes_of_plan)))

    def _steps_of_segments(self) -> tuple[tuple[str, int], ...]:
        steps: dict[str, int] = {}
        for step, label in self._steps:
            for name in self._names_of(self._loci(label).ravel()):
                steps[name] = math.lcm(steps.get(name, 1), step)
        return tuple(sorted(steps.items()))

    def _tapped(self) -> tuple[Tap, ...]:
        """Return where each locus is looked at: heads, and what else is part of a grid, at the layer behind
        them, and only there.
        """
        found = {place: (dim, self._loci(label)) for place, (dim, label) in self._taps.items()}
        inputs = {
            place
            for place, (_, loci) in found.items()
            if place[1] and (loci.ndim > 1 or self._has_heads(self._taps[place][1]))
        }
        behind = np.unique(
            np.concatenate([np.empty(0, np.int64), *(found[place][1].ravel() for place in inputs)])
        )
        taps, seen = [], behind
        # what no output shows (recurrent units, computed weights) is looked at behind it as well
        for place, (dim, loci) in sorted(found.items(), key=lambda item: item[0][1]):
            scored = (
                loci if place in inputs else np.where(np.isin(loci, seen if place[1] else behind), -1, loci)
            )
            if (scored >= 0).any():
                taps.append(Tap(place[0], dim, loci, place[1], None if scored is loci else scored))
                seen = np.union1d(seen, scored)
        return tuple(taps)

    def _has_heads(self, label: np.ndarray) -> bool:
        return any(
            self.loci.tag_of(root) == "heads"
            for root in np.unique(self.loci.levels(label)).tolist()
            if root >= 0
        )

    def gates(self) -> dict[str, int]:
        """Return the locus of every block that can be left out: they come last."""
        return {block.path: self.count + number for number, block in enumerate(self.blocks)}

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

    def _attributes(self, by_axis: dict[tuple[str, int], np.ndarray]) -> list[Attribute]:
        found = {
            (a.module, a.name): a
            for (tensor, dim), loci in by_axis.items()
            for a in self._of_layer(tensor, dim, loci)
        }
        others = [*self._known.items()]
        others += [((f.module, f.name), self.literals[f.literal].label) for f in self.followers]
        for path, rewriting in self.rewritings.items():
            sizes = self._rewritten_sizes(path, rewriting)
            if sizes is not None:
                others += sizes
                # a pinned number is an attribute as well, and as long as what it counts: nothing goes there
                found |= {
                    (path, name): Attribute(path, name, np.full(value, -1))
                    for name, value in rewriting.pins.items()
                }
        found |= {
            (path, IS_THERE): Attribute(path, IS_THERE, np.array([locus]))
            for path, locus in self.gates().items()
        }
        for (module, name), label in others:
            loci = self._loci(label)
            if (loci >= 0).any():
                found[module, name] = Attribute(module, name, loci)
        return list(found.values())

    def _rewritten_sizes(
        self, path: str, rewriting: Rewriting
    ) -> list[tuple[tuple[str, str], np.ndarray]] | None:
        """Return the attributes of a rewritten module with their labels, None where nothing there varies."""
        sizes = [
            ((path, name), self.literals[number.literal].label) for name, number in rewriting.sizes.items()
        ]
        labels = [*(pin.label for pin in self.pins if pin.path == path), *(label for _, label in sizes)]
        return sizes if any((self._loci(label) >= 0).any() for label in labels) else None

    def _of_layer(self, tensor: str, dim: int, loci: np.ndarray) -> list[Attribute]:
        path, name = _layer_of(tensor)
        field = _size_field(self.model.get_submodule(path), name, dim)
        return [Attribute(path, field, loci)] if field and dim < 2 else []

    def _sizes(self, by_axis: dict[tuple[str, int], np.ndarray]) -> tuple[TensorSize, ...]:
        first = canonical_names(self.model)
        parameters = {name for name, _ in self.model.named_parameters()}
        aliases: dict[str, list[str]] = defaultdict(list)
        for name, canonical in first.items():
            aliases[canonical].append(name)

        def size(name: str, tensor: Tensor) -> TensorSize:
            axes = tuple(by_axis.get((name, d)) for d in range(tensor.ndim))
            # tied to a tensor elsewhere it stays when the block goes
            gate = next(
                (
                    g
                    for path, g in self.gates().items()
                    if all(alias.startswith(f"{path}.") for alias in aliases[name])
                ),
                -1,
            )
            return TensorSize(
                name, tuple(tensor.shape), tensor.element_size(), name in parameters, axes, gate
            )

        return tuple(size(name, tensor) for name, tensor in self._tensors.items() if first[name] == name)

    def _groups(self, segments: list[Segment], axes: tuple[AxisSlice, ...]) -> tuple[Group, ...]:
        names: dict[str, dict[str, None]] = defaultdict(dict)
        for axis in axes:
            for name in self._names_of(axis.loci):
                names[name].setdefault(f"{axis.tensor}[{axis.dim}]")
        blocks = {DEPTH: tuple(block.path for block in self.blocks)}
        return tuple(Group(s.name, s.size, blocks.get(s.name, tuple(names[s.name]))) for s in segments)

    def _frozen(self) -> tuple[Frozen, ...]:
        found = []
        for axis in self._axes.values():
            if len(axis.atoms) == 1:
                continue
            reasons = sorted({*self._reasons(axis.atoms)}, key=str)
            found += [Frozen(f"{axis.tensor}[{axis.dim}]", r.text, r.where) for r in reasons]
        return tuple(found)

    def _reasons(self, atoms: np.ndarray) -> list[Reason]:
        """Return why those of some atoms that always stay do so, each reason once."""
        stays = self.loci.levels(atoms)[0] < 0
        roots = dict.fromkeys(self.loci.find(atoms[stays]).tolist())
        return [*dict.fromkeys(r for root in roots if (r := self.loci.reason(root)) is not None)]

    def table(self) -> list[dict[str, Any]]:
        """Return every axis of every parameter with more than one position: its groups, or why it stays and
        where that was found.
        """
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
            return {
                "groups": [],
                "reason": "positions of a kernel" if kernel else "no operation with a rule uses this axis",
                "where": "",
            }
        loci = self._loci(axis.atoms)
        groups = self._names_of(loci.ravel())
        reasons = self._reasons(axis.atoms)
        if not groups:  # of several divisions of the axis the one that was tried and refused says more
            reasons = sorted(
                (r for atom in axis.atoms.tolist() for r in self.loci.reasons(atom)),
                key=lambda r: "reduced " not in r.text,
            )
        if reasons:
            return {"groups": groups, "reason": reasons[0].text, "where": reasons[0].where}
        return {
            "groups": groups,
            "reason": "" if groups else "no layer puts out these positions",
            "where": "",
        }


def _layer_of(tensor: str) -> tuple[str, str]:
    """Return the path of the layer that a parameter belongs to, and its name there, empty where it is none of
    the layer's own.
    """
    if ".parametrizations." in tensor:  # the layer is the one above, whose parameter is computed of this one
        path, _, rest = tensor.partition(".parametrizations.")
        return path, rest.partition(".")[0] if rest.endswith("1") or "original." in rest + "." else ""
    path, _, name = tensor.rpartition(".")
    return path, name


def _size_field(module: nn.Module, name: str, dim: int) -> str:
    """Return the attribute in which a layer of torch keeps the size of an axis of a parameter, empty for
    none.
    """
    if isinstance(module, _ConvNd) and name == "weight" and module.groups == 1:
        # the weight of a transposed convolution begins with the inputs
        is_output = (dim == 0) != isinstance(module, _ConvTransposeNd)
        return "out_channels" if is_output else "in_channels"
    if isinstance(module, nn.Linear) and name == "weight":
        return "out_features" if dim == 0 else "in_features"
    if isinstance(module, _BatchNorm) and name in ("weight", "running_mean"):
        return "num_features"
    if isinstance(module, nn.Embedding) and dim == 1:
        return "embedding_dim"
    return "num_parameters" if isinstance(module, nn.PReLU) else ""
