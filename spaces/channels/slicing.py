"""Slicing: a genome's model is a clone of the module tree with index-selected copies of what the genome
touches.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spaces.channels.attention import PACKED, plain_class
from spaces.channels.depth import IS_THERE, Skip
from spaces.channels.plan import SlicePlan
from spaces.channels.rewriting import Forward, Program, is_made, program_of

_COPIED = frozenset((dict, list, set, OrderedDict))
_REGISTERED = frozenset(("_parameters", "_buffers", "_modules"))


class Slicer:
    """Builds compact models of one base model by one plan. What does not depend on the genome is worked out
    once.
    """

    def __init__(self, model: nn.Module, plan: SlicePlan) -> None:
        self._indices = _Indices()
        self._slices: dict[str, list[tuple[int, int]]] = defaultdict(list)
        loci: dict[tuple[str, int], list[np.ndarray]] = defaultdict(list)
        for axis in plan.axes:
            loci[axis.tensor, axis.dim].append(axis.loci)
        for (tensor, dim), levels in loci.items():
            self._slices[tensor].append(
                (dim, self._indices.add(levels[0] if len(levels) == 1 else np.stack(levels)))
            )
        self._attributes: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for attribute in plan.attributes:
            self._attributes[attribute.module].append((attribute.name, self._indices.add(attribute.loci)))
        self._blueprint = self._draw(model, "", {})

    def build(self, model: nn.Module, genome: np.ndarray) -> nn.Module:
        """Return a compact model that shares no storage with `model`, in the same mode."""
        with torch.no_grad():
            return _clone(model, self._blueprint, self._indices.kept(genome), {})

    def kept(self, genome: np.ndarray) -> dict[str, dict[int, np.ndarray]]:
        """Return the kept positions of every sliced axis: tensor name -> axis -> indices."""
        kept = self._indices.kept(genome)
        return {
            name: {dim: kept[index].numpy() for dim, index in slices} for name, slices in self._slices.items()
        }

    def attributes(self, genome: np.ndarray) -> dict[str, dict[str, int]]:
        """Return the changed attributes: module name -> attribute -> size."""
        kept = self._indices.kept(genome)
        return {
            module: {name: len(kept[index]) for name, index in changed}
            for module, changed in self._attributes.items()
        }

    def _draw(self, module: nn.Module, path: str, drawn: dict[int, _Blueprint]) -> _Blueprint:
        if id(module) in drawn:
            return drawn[id(module)]
        prefix = f"{path}." if path else ""
        blueprint = drawn[id(module)] = _Blueprint(attributes=list(self._attributes.get(path, ())))
        made = [name for name, _ in blueprint.attributes if is_made(name)]
        blueprint.program = program_of(module, made) if made else None
        blueprint.tensors = [
            (group, name, self._slices.get(prefix + name, []))
            for group in ("_parameters", "_buffers")
            for name, tensor in getattr(module, group).items()
            if tensor is not None
        ]
        blueprint.children = [
            (name, self._draw(child, prefix + name, drawn))
            for name, child in module._modules.items()
            if child is not None
        ]
        # torch does not register modules in plain lists and dictionaries; recurrent layers list their weights
        # a second time
        for key, place, item in _listed(module):
            if isinstance(item, nn.Module):
                blueprint.listed.append((key, place, self._draw(item, f"{prefix}{key}.{place}", drawn)))
            elif isinstance(item, Tensor):
                blueprint.aliases.append((key, place))
        return blueprint


def _listed(module: nn.Module) -> Iterator[tuple[str, Any, Any]]:
    """Yield the items of a module's plain lists and dictionaries: attribute, place in it, item."""
    for key, value in module.__dict__.items():
        if key not in _REGISTERED and type(value) in (dict, list):
            for place, item in list(value.items() if type(value) is dict else enumerate(value)):
                yield key, place, item


@dataclass(eq=False)
class _Blueprint:
    """What there is to copy in one module: tensors with their slices (axis, number of the index), modules,
    sizes, rewritten code.
    """

    tensors: list[tuple[str, str, list[tuple[int, int]]]] = field(default_factory=list)
    children: list[tuple[str, _Blueprint]] = field(default_factory=list)
    listed: list[tuple[str, Any, _Blueprint]] = field(default_factory=list)
    aliases: list[tuple[str, Any]] = field(default_factory=list)
    attributes: list[tuple[str, int]] = field(default_factory=list)
    program: Program | None = None


def _clone(module: nn.Module, blueprint: _Blueprint, kept: list[Tensor], clones: dict[int, Any]) -> nn.Module:
    known = clones.get(id(module))
    if known is not None:  # a module that is used under two names stays one
        return known
    if any(name == IS_THERE and not kept[index].numel() for name, index in blueprint.attributes):
        skip = clones[id(module)] = Skip()
        skip.training = module.training
        return skip
    kind = plain_class(module)
    clone: Any = object.__new__(kind)
    clones[id(module)] = clone
    # copy.copy fails on parametrised modules; the dictionary is all that a module is. Containers are copied,
    # what stands in them is replaced below: tensors by slices, modules by their clones
    state = {
        k: (v.copy() if v else type(v)()) if type(v) in _COPIED else v for k, v in module.__dict__.items()
    }
    if kind is not type(module):
        state[PACKED] = False
    object.__setattr__(clone, "__dict__", state)
    for group, name, slices in blueprint.tensors:
        state[group][name] = _slice(state[group][name], slices, kept, clones)
    for name, child in blueprint.children:
        state["_modules"][name] = _clone(state["_modules"][name], child, kept, clones)
    for key, place, child in blueprint.listed:
        state[key][place] = _clone(state[key][place], child, kept, clones)
    for key, place in blueprint.aliases:
        state[key][place] = clones.get(id(state[key][place]), state[key][place])
    for name, index in blueprint.attributes:
        if name != IS_THERE:
            state[name] = _resized(state.get(name), kept[index].numel())
    # a model that was pruned before has a rewritten forward already, which must run the clone
    program = blueprint.program or getattr(state.get("forward"), "program", None)
    if program is not None:
        state["forward"] = Forward(clone, program)
    return clone


def _resized(before: Any, size: int) -> Any:
    """Return the new value of an attribute that holds a size; of several sizes it is the first."""
    return type(before)([size, *before[1:]]) if isinstance(before, tuple | list) else size


def _slice(
    tensor: Tensor, slices: list[tuple[int, int]], kept: list[Tensor], clones: dict[int, Any]
) -> Tensor:
    known = clones.get(id(tensor))
    if known is not None:  # tied tensors stay tied
        return known
    data = None
    for dim, index in slices:
        chosen = kept[index]
        if chosen.numel() < tensor.shape[dim]:
            data = (tensor if data is None else data).index_select(
                dim, chosen if tensor.is_cpu else chosen.to(tensor.device)
            )
    if data is None:
        data = tensor.detach().clone()
    if type(tensor) is nn.Parameter or isinstance(tensor, nn.Parameter):
        data = nn.Parameter(data, tensor.requires_grad)
    clones[id(tensor)] = data
    return data


class _Indices:
    """Distinct locus arrays, so that equal axes are looked up once a genome."""

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []
        self._known: dict[tuple[tuple[int, ...], bytes], int] = {}

    def add(self, loci: np.ndarray) -> int:
        key = (loci.shape, np.ascontiguousarray(loci, dtype=np.int64).tobytes())
        if key not in self._known:
            self._known[key] = len(self._arrays)
            self._arrays.append(loci)
        return self._known[key]

    def kept(self, genome: np.ndarray) -> list[Tensor]:
        keep = np.append(genome.astype(bool), True)  # locus -1 is the last entry: always kept
        return [
            torch.from_numpy(np.flatnonzero(keep[loci] if loci.ndim == 1 else keep[loci].all(axis=0)))
            for loci in self._arrays
        ]
