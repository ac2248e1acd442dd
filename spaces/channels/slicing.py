"""Slicing: a genome's model is a clone of the module tree with index-selected copies of what the genome touches."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spaces.channels.plan import SlicePlan

_COPIED = frozenset((dict, list, set, OrderedDict))
_REGISTERED = frozenset(("_parameters", "_buffers", "_modules"))


class Slicer:
    """Builds compact models of one base model by one plan. What does not depend on the genome is worked out once."""

    def __init__(self, plan: SlicePlan) -> None:
        self._indices = _Indices()
        self._slices: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for axis in plan.axes:
            self._slices[axis.tensor].append((axis.dim, self._indices.add(axis.loci)))
        self._attributes: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for attribute in plan.attributes:
            self._attributes[attribute.module].append((attribute.name, self._indices.add(attribute.loci)))

    def build(self, model: nn.Module, genome: np.ndarray) -> nn.Module:
        """Return a compact model that shares no storage with `model`, in the same mode."""
        kept = self._indices.kept(genome)
        with torch.no_grad():
            return self._module(model, "", kept, {})

    def kept(self, genome: np.ndarray) -> dict[str, dict[int, np.ndarray]]:
        """Return the kept positions of every sliced axis: tensor name -> axis -> indices."""
        kept = self._indices.kept(genome)
        return {name: {dim: kept[index].numpy() for dim, index in slices} for name, slices in self._slices.items()}

    def attributes(self, genome: np.ndarray) -> dict[str, dict[str, int]]:
        """Return the changed attributes: module name -> attribute -> size."""
        kept = self._indices.kept(genome)
        return {module: {name: len(kept[index]) for name, index in changed} for module, changed in self._attributes.items()}

    def _module(self, module: nn.Module, path: str, kept: list[Tensor], clones: dict[int, Any]) -> nn.Module:
        if id(module) in clones:
            return clones[id(module)]
        clone: Any = object.__new__(type(module))
        clones[id(module)] = clone
        # copy.copy fails on parametrised modules; the dictionary is all that a module is
        state = {k: (v.copy() if v else type(v)()) if type(v) in _COPIED else v for k, v in module.__dict__.items()}
        object.__setattr__(clone, "__dict__", state)
        prefix = f"{path}." if path else ""
        for tensors in (state["_parameters"], state["_buffers"]):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = self._tensor(tensor, prefix + name, kept, clones)
        for name, child in module._modules.items():
            if child is not None:
                state["_modules"][name] = self._module(child, prefix + name, kept, clones)
        for key, value in state.items():  # modules in plain lists and dictionaries, which torch does not register
            if value and key not in _REGISTERED and type(value) in (dict, list):
                for place, item in list(value.items() if type(value) is dict else enumerate(value)):
                    if isinstance(item, nn.Module):
                        value[place] = self._module(item, f"{prefix}{key}.{place}", kept, clones)
        for name, index in self._attributes.get(path, ()):
            state[name] = kept[index].numel()
        return clone

    def _tensor(self, tensor: Tensor, name: str, kept: list[Tensor], clones: dict[int, Any]) -> Tensor:
        if id(tensor) in clones:  # tied tensors stay tied
            return clones[id(tensor)]
        data = tensor.detach()
        for dim, index in self._slices.get(name, ()):
            if kept[index].numel() < data.shape[dim]:
                data = data.index_select(dim, kept[index].to(data.device))
        if data.data_ptr() == tensor.data_ptr():
            data = data.clone()
        if type(tensor) is nn.Parameter or isinstance(tensor, nn.Parameter):
            data = nn.Parameter(data, requires_grad=tensor.requires_grad)
        clones[id(tensor)] = data
        return data


class _Indices:
    """Distinct locus arrays, so that equal axes are looked up once a genome."""

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []
        self._known: dict[bytes, int] = {}

    def add(self, loci: np.ndarray) -> int:
        key = np.ascontiguousarray(loci, dtype=np.int64).tobytes()
        if key not in self._known:
            self._known[key] = len(self._arrays)
            self._arrays.append(loci)
        return self._known[key]

    def kept(self, genome: np.ndarray) -> list[Tensor]:
        keep = np.append(genome.astype(bool), True)  # locus -1 is the last entry: always kept
        return [torch.from_numpy(np.flatnonzero(keep[loci])) for loci in self._arrays]
