"""Slicing: a genome's model is a clone of the module tree with index-selected copies of what the genome
touches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spaces.channels.attention import PACKED, plain_class
from spaces.channels.depth import IS_THERE, Skip
from spaces.channels.plan import SlicePlan
from spaces.channels.references import CONTAINERS, REGISTERED, Copies, flat, own_copy, reached, settled
from spaces.channels.rewriting import Forward, Program, is_made, program_of
from spaces.channels.trace import tensors_by_name
from spaces.errors import InputError

_STANDARD = frozenset(vars(nn.Module()))
"""Attributes that every module has, most of which are empty."""


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
        self._has_loose = _mark_shared(model, self._blueprint)
        self._large: dict[int, Any] = {}

    def build(self, model: nn.Module, genome: np.ndarray, lent: bool = False) -> nn.Module:
        """Return a compact model, in the same mode.

        Args:
            model: the full model, or a copy of it.
            genome: what of it stays.
            lent: parameters that stay whole, or a part without gaps, share their storage with `model`; else
                nothing does.
        """
        with torch.no_grad():
            work = _Cloning(self._indices.kept(genome), self._large, lent)
            clone = work.clone(model, self._blueprint)
            if self._has_loose:
                work.follow()
        return clone

    def __getstate__(self) -> dict[str, Any]:
        """Objects are others in another process."""
        return self.__dict__ | {"_large": {}}

    def kept(self, genome: np.ndarray) -> dict[str, dict[int, np.ndarray]]:
        """Return the kept positions of every sliced axis: tensor name -> axis -> indices."""
        kept = self._indices.kept(genome)
        return {
            name: {dim: kept[index].places.numpy() for dim, index in slices}
            for name, slices in self._slices.items()
        }

    def attributes(self, genome: np.ndarray) -> dict[str, dict[str, int]]:
        """Return the changed attributes: module name -> attribute -> size."""
        kept = self._indices.kept(genome)
        return {
            module: {name: kept[index].count for name, index in changed}
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
        blueprint.loose = [*_loose(module)]
        return blueprint


def _loose(module: nn.Module) -> Iterator[str]:
    """Yield the attributes that may hold something of a model, or state that a shallow copy would share."""
    for key, value in module.__dict__.items():
        is_usual = key in _STANDARD and (not value or key in REGISTERED or value is True)
        if not is_usual and not settled(value) and not flat(value):
            yield key


def _mark_shared(model: nn.Module, blueprint: _Blueprint) -> bool:
    """Add to what is loose the containers that several attributes hold; return whether anything is loose."""
    holders: dict[int, list[tuple[_Blueprint, str]]] = defaultdict(list)
    has_loose = False
    for module, drawn in _walk(model, blueprint, set()):
        has_loose |= bool(drawn.loose)
        for key, value in module.__dict__.items():
            if key not in _STANDARD and type(value) in CONTAINERS:
                holders[id(value)].append((drawn, key))
    for places in holders.values():
        if len(places) > 1:
            has_loose = True
            for drawn, key in places:
                drawn.loose += [key] if key not in drawn.loose else []
    return has_loose


def _walk(module: nn.Module, blueprint: _Blueprint, seen: set[int]) -> Iterator[tuple[nn.Module, _Blueprint]]:
    """Yield the modules of a tree with their blueprints, each once."""
    if id(module) not in seen:
        seen.add(id(module))
        yield module, blueprint
        for name, child in blueprint.children:
            yield from _walk(module._modules[name], child, seen)  # type: ignore[arg-type]


@dataclass(eq=False)
class _Blueprint:
    """What there is to copy in one module: tensors with their slices (axis, number of the index), modules,
    sizes, rewritten code, and attributes that may hold something of the model.
    """

    tensors: list[tuple[str, str, list[tuple[int, int]]]] = field(default_factory=list)
    children: list[tuple[str, _Blueprint]] = field(default_factory=list)
    attributes: list[tuple[str, int]] = field(default_factory=list)
    program: Program | None = None
    loose: list[str] = field(default_factory=list)


class _Cloning:
    """One copy of a module tree.

    Args:
        kept: positions that stay, by the numbers of the blueprints.
        large: objects that are not copied, by id; is added to.
        lent: parameters that stay whole, or a part without gaps, are not copied.
    """

    def __init__(self, kept: list[_Kept], large: dict[int, Any], lent: bool = False) -> None:
        self._kept, self._large, self._lent = kept, large, lent
        self._clones: dict[int, Any] = {}
        self._pairs: list[tuple[nn.Module, nn.Module, _Blueprint]] = []
        self._left_out: dict[int, _Blueprint] = {}
        self._storages: dict[Any, Tensor] | None = None

    def clone(self, module: nn.Module, blueprint: _Blueprint) -> nn.Module:
        """Return the copy of a module, the same one for the same; what is loose is that of the original."""
        known = self._clones.get(id(module))
        if known is not None:  # a module that is used under two names stays one
            return known
        if any(name == IS_THERE and not self._kept[index].count for name, index in blueprint.attributes):
            return self._left(module, blueprint)
        kind = plain_class(module)
        clone: Any = object.__new__(kind)
        self._clones[id(module)] = clone
        self._pairs.append((module, clone, blueprint))
        # copy.copy fails on parametrised modules; the dictionary is all that a module is. Containers are
        # copied, what stands in them is replaced below: tensors by slices, modules by their clones
        state = {
            k: (v.copy() if v else type(v)()) if type(v) in CONTAINERS else v
            for k, v in module.__dict__.items()
        }
        if kind is not type(module):
            state[PACKED] = False
        object.__setattr__(clone, "__dict__", state)
        for group, name, slices in blueprint.tensors:
            state[group][name] = _slice(state[group][name], slices, self._kept, self._clones, self._lent)
        for name, child in blueprint.children:
            state["_modules"][name] = self.clone(state["_modules"][name], child)
        for name, index in blueprint.attributes:
            if name != IS_THERE:
                state[name] = _resized(state.get(name), self._kept[index].count)
        if blueprint.program is not None:
            state["forward"] = Forward(clone, blueprint.program)
        return clone

    def follow(self) -> None:
        """Have attributes, hooks and closures of the copy hold what is the copy's own.

        An attribute that cannot be copied stays that of the original: :meth:`check` finds it.
        """
        copies = Copies(self._clones, self._unregistered, self._tensor, self._large)
        for module, clone, blueprint in self._pairs:
            for key, value in module.__dict__.items():
                if type(value) in CONTAINERS and key not in REGISTERED and key not in blueprint.loose:
                    self._clones[id(value)] = clone.__dict__[key]
        for module, clone, blueprint in self._pairs:  # which become more on the way
            sizes = {name for name, _ in blueprint.attributes}
            for key in blueprint.loose:
                is_made = key in sizes or (key == "forward" and blueprint.program is not None)
                if key in module.__dict__ and not is_made:
                    try:
                        clone.__dict__[key] = copies(module.__dict__[key])
                    except Exception:
                        clone.__dict__[key] = module.__dict__[key]

    def check(self, model: nn.Module) -> None:
        """Raise :class:`InputError` where the copy still holds something of the original."""
        names = {id(module): path or "the model" for path, module in model.named_modules()}
        names |= {id(tensor): name for name, tensor in tensors_by_name(model).items()}
        for module, clone, blueprint in self._pairs:
            for key in blueprint.loose:
                held = next((names[id(x)] for x in reached(clone.__dict__[key]) if id(x) in names), None)
                if held is not None:
                    path = names.get(id(module), type(module).__name__).removeprefix("the model")
                    place, kind = f"{path}.{key}".lstrip("."), type(module.__dict__[key]).__name__
                    raise InputError(
                        f"model {type(model).__name__}: {place} ({kind}) holds {held} in a way that a copy "
                        f"cannot follow; expected an attribute that Python's copy module can copy"
                    )

    def _tensor(self, tensor: Tensor) -> Tensor:
        """Return the copy of a tensor that is not registered; one that is a view of a parameter or buffer is
        one of its copy, as long as that is whole.
        """
        if self._storages is None:  # most models hold no such tensor
            registered = [
                t for m, _, _ in self._pairs for t in (*m._parameters.values(), *m._buffers.values())
            ]
            self._storages = {_place(t): t for t in registered if t is not None}
        source = self._storages.get(_place(tensor))
        copied = None if source is None else self._clones.get(id(source))
        if source is None or copied is None:
            return own_copy(tensor)
        if tensor.shape == source.shape and tensor.stride() == source.stride():
            return copied.detach()
        if copied.shape == source.shape and copied.stride() == source.stride():
            offset = tensor.storage_offset() - source.storage_offset() + copied.storage_offset()
            return copied.detach().as_strided(tensor.shape, tensor.stride(), offset)
        return own_copy(tensor)

    def _left(self, module: nn.Module, blueprint: _Blueprint) -> nn.Module:
        """Leave a block out; something else may still hold what is in it."""
        skip = self._clones[id(module)] = Skip()
        skip.training = module.training
        self._left_out |= {id(inner): drawn for inner, drawn in _walk(module, blueprint, set())}
        return skip

    def _unregistered(self, module: nn.Module) -> nn.Module:
        """Return the copy of a module that only an attribute holds."""
        blueprint = self._left_out.get(id(module)) or _whole(module, {})
        for inner, drawn in _walk(module, blueprint, set()):
            # it was not looked at when containers of several holders were looked for
            drawn.loose = [k for k, v in vars(inner).items() if k not in REGISTERED and not settled(v)]
        return self.clone(module, blueprint)


def _whole(module: nn.Module, drawn: dict[int, _Blueprint]) -> _Blueprint:
    """Return the blueprint of a module of which nothing is cut."""
    if id(module) in drawn:
        return drawn[id(module)]
    blueprint = drawn[id(module)] = _Blueprint()
    blueprint.tensors = [
        (group, name, [])
        for group in ("_parameters", "_buffers")
        for name, tensor in getattr(module, group).items()
        if tensor is not None
    ]
    blueprint.children = [
        (name, _whole(child, drawn)) for name, child in module._modules.items() if child is not None
    ]
    blueprint.loose = [*_loose(module)]
    return blueprint


def cloned(model: nn.Module, lent: bool = False) -> nn.Module:
    """Return a copy of a model of which nothing is cut; `lent` as in :meth:`Slicer.build`."""
    return _copied(model, lent)[0]


def refuse_unfollowed(model: nn.Module) -> None:
    """Raise :class:`InputError` where a copy of the model would hold something of the model itself, naming
    the attribute.
    """
    if _mark_shared(model, _whole(model, {})):
        _copied(model, lent=True)[1].check(model)


def _copied(model: nn.Module, lent: bool = False) -> tuple[nn.Module, _Cloning]:
    blueprint = _whole(model, {})
    with torch.no_grad():
        work = _Cloning([], {}, lent)
        clone = work.clone(model, blueprint)
        if _mark_shared(model, blueprint):
            work.follow()
    return clone, work


def _place(tensor: Tensor) -> Any:
    """Where the content of a tensor lies; of one without content, itself."""
    try:
        return tensor.untyped_storage().data_ptr() or id(tensor)
    except (NotImplementedError, RuntimeError):  # no dense tensor
        return id(tensor)


def _resized(before: Any, size: int) -> Any:
    """Return the new value of an attribute that holds a size; of several sizes it is the first."""
    return type(before)([size, *before[1:]]) if isinstance(before, tuple | list) else size


def _slice(
    tensor: Tensor, slices: list[tuple[int, int]], kept: list[_Kept], clones: dict[int, Any], lent: bool
) -> Tensor:
    known = clones.get(id(tensor))
    if known is not None:  # tied tensors stay tied
        return known
    # the class of parameters asks objects, slowly, whether they are some
    is_parameter = type(tensor) is nn.Parameter or (
        type(tensor) is not Tensor and isinstance(tensor, nn.Parameter)
    )
    cuts = [(dim, kept[index]) for dim, index in slices if kept[index].count < tensor.shape[dim]]
    data = tensor.detach()
    for dim, cut in sorted(cuts, key=lambda item: item[1].start is None):  # first what copies nothing
        data = cut.of(data, dim)
    is_own = any(cut.start is None for _, cut in cuts)
    if not cuts:
        data = data if lent and is_parameter else data.clone()
    elif not data.is_contiguous() or not (is_own or (lent and is_parameter)):
        data = data.clone(memory_format=torch.contiguous_format)
    if is_parameter:
        data = nn.Parameter(data, tensor.requires_grad)
    clones[id(tensor)] = data
    return data


@dataclass(frozen=True, eq=False)
class _Kept:
    """Positions of an axis that stay.

    Attributes:
        places: int64, ascending.
        count: of them.
        start: the first one where they stand side by side, else None.
    """

    places: Tensor
    count: int
    start: int | None

    @classmethod
    def at(cls, places: np.ndarray) -> _Kept:
        """Return what stays at these places."""
        count = len(places)
        together = count > 0 and int(places[-1]) - int(places[0]) + 1 == count
        return cls(torch.from_numpy(places), count, int(places[0]) if together else None)

    def of(self, tensor: Tensor, dim: int) -> Tensor:
        """Return what stays of a tensor: a view where it stands side by side, else a copy."""
        if self.start is not None:
            return tensor.narrow(dim, self.start, self.count)
        return tensor.index_select(dim, self.places if tensor.is_cpu else self.places.to(tensor.device))


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

    def kept(self, genome: np.ndarray) -> list[_Kept]:
        keep = np.append(genome.astype(bool), True)  # locus -1 is the last entry: always kept
        return [
            _Kept.at(np.flatnonzero(keep[loci] if loci.ndim == 1 else keep[loci].all(axis=0)))
            for loci in self._arrays
        ]
