"""Second references: what attributes, hooks and closures of a model hold of its modules, and copies in which
these are others.
"""

from __future__ import annotations

import functools
import gc
import logging
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, fx, nn

REGISTERED = frozenset(("_parameters", "_buffers", "_modules"))
CONTAINERS = frozenset((dict, list, set, OrderedDict))
_CHANGING = CONTAINERS | {deque}
MOST_OBJECTS, MOST_BYTES = 1000, 1 << 20
"""An object of the user's that holds nothing of the model is copied up to this size (its state is the
copy's own), and shared above it (a data set).
"""

_ATOMS = frozenset(
    (
        *(type(None), bool, int, float, complex, str, bytes, range, types.CodeType),
        *(type(NotImplemented), type(Ellipsis), torch.dtype, torch.device, torch.Size, torch.layout),
    )
)
_BUILTIN = (types.BuiltinMethodType, types.MethodWrapperType)
_LRU = type(functools.lru_cache(int))
_LEAVES = (type, types.ModuleType, types.FrameType, Enum, fx.Graph, np.generic, logging.Logger)


def _is_atom(value: Any) -> bool:
    # a weak proxy says that it is of the class that it stands for
    return type(value) in _ATOMS or (type(value) not in weakref.ProxyTypes and isinstance(value, _LEAVES))


def settled(value: Any, seen: frozenset[int] = frozenset()) -> bool:
    """Whether nothing in a value can change or belongs to a model, so that copies may share it."""
    if _is_atom(value) or id(value) in seen:
        return True
    kind = type(value)
    seen = seen | {id(value)}
    if kind in (tuple, frozenset):
        return all(settled(item, seen) for item in value)
    if kind is types.FunctionType:
        return all(settled(item, seen) for item in _held(value))
    if kind is functools.partial:
        held = (value.func, *value.args, *value.keywords.values(), *vars(value).values())
        return all(settled(item, seen) for item in held)
    # of a built-in function `__self__` is the file that it stands in
    return kind in _BUILTIN and settled(value.__self__, seen)


def flat(value: Any) -> bool:
    """Whether a value is a container of settled ones."""
    if type(value) not in CONTAINERS:
        return False
    return all(map(settled, value)) and (not isinstance(value, dict) or all(map(settled, value.values())))


def reached(value: Any) -> Iterator[Any]:
    """Yield a value and all that it holds, through whatever kinds of objects, each once. Classes, files and
    the state of modules are not entered.
    """
    seen, waiting = {id(value)}, [value]  # which keeps all of them alive: no other object gets their ids
    for found in waiting:
        yield found
        for item in _referents(found):
            if id(item) not in seen and type(item) not in _ATOMS:
                seen.add(id(item))
                waiting.append(item)


def _referents(value: Any) -> list[Any]:
    if type(value) in weakref.ProxyTypes:
        return [_target(value)]
    if _is_atom(value) or isinstance(value, nn.Module | Tensor):
        return []
    if isinstance(value, types.FunctionType):
        return _held(value)
    if isinstance(value, weakref.ReferenceType):
        return [value()]
    return gc.get_referents(value)


def _held(function: types.FunctionType) -> list[Any]:
    """Return what a function holds beside its file."""
    cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    return [
        *cells,
        *(function.__defaults__ or ()),
        *(function.__kwdefaults__ or {}).values(),
        *vars(function).values(),
    ]


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 raises where it is empty
    except ValueError:
        return False
    return True


def _target(proxy: Any) -> Any:
    """Return what a weak proxy stands for, None where that is gone."""
    try:
        return proxy.__repr__.__self__
    except ReferenceError:
        return None


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Put attributes, and what stands in their containers and objects, back afterwards: tracing a ``forward``
    that sets some would leave tensors without content there.
    """
    fields: dict[int, dict[str, Any]] = {}
    containers: dict[int, Any] = {}
    modules = [*model.modules()]
    known = {id(module) for module in modules}
    for module in modules:  # which become more on the way
        fields[id(module)] = vars(module)
        loose = [v for k, v in vars(module).items() if k not in REGISTERED and not settled(v)]
        for item in reached(loose):
            if type(item) in _CHANGING and item is not loose:
                containers[id(item)] = item
            elif isinstance(item, nn.Module):
                modules += [item] if id(item) not in known else []
                known.add(id(item))
            elif (
                hasattr(item, "__dict__") and not isinstance(item, nn.Module | Tensor) and not _is_atom(item)
            ):
                fields[id(item)] = vars(item)
    before = [(found, found.copy()) for found in (*fields.values(), *containers.values())]
    try:
        yield
    finally:
        for found, contents in before:
            if not _same(found, contents):
                found.clear()
                (found.extend if isinstance(found, list | deque) else found.update)(contents)


def _same(one: Any, other: Any) -> bool:
    """Whether two containers of a kind hold the same objects."""
    parts = (one.items(), other.items()) if isinstance(one, dict) else (one, other)
    return len(one) == len(other) and all(
        a is b or (isinstance(one, dict) and a[0] is b[0] and a[1] is b[1])
        for a, b in zip(*parts, strict=True)
    )


class Copies:
    """Copies values such that what they hold of a model are the copies of that.

    Args:
        known: id of an original -> its copy: the modules, parameters and buffers of the model; is added to.
        clone: returns the copy of a module that is not registered in the model, and adds it to `known`.
        tensor: returns the copy of a tensor that is not registered.
        large: objects that are shared, by id; is added to.
    """

    def __init__(
        self,
        known: dict[int, Any],
        clone: Callable[[nn.Module], nn.Module],
        tensor: Callable[[Tensor], Tensor],
        large: dict[int, Any],
    ) -> None:
        self.known, self._clone, self._tensor, self._large = known, clone, tensor, large
        self._alive: list[Any] = []

    def __call__(self, value: Any) -> Any:
        """Return the copy of a value, the same one for the same.

        Raises:
            Exception: of whatever kind, where an object that holds something of the model cannot be copied.
        """
        if _is_atom(value):
            return value
        if id(value) not in self.known:
            copied = self._copied(value)
            self.known[id(value)] = copied
            self._alive.append(value)  # else another object could get its id
        return self.known[id(value)]

    def _copied(self, value: Any) -> Any:
        copy = self._KINDS.get(type(value))
        if copy is not None:
            return copy(self, value)
        if isinstance(value, nn.Module):
            return self._clone(value)
        return self._tensor(value) if isinstance(value, Tensor) else self._object(value)

    def _list(self, value: list[Any]) -> list[Any]:
        copied = self.known[id(value)] = list[Any]()
        copied += map(self, value)
        return copied

    def _dict(self, value: dict[Any, Any]) -> dict[Any, Any]:
        copied = self.known[id(value)] = type(value)()
        copied.update((self(key), self(item)) for key, item in value.items())
        return copied

    def _set(self, value: Any) -> Any:
        return type(value)(map(self, value))

    def _array(self, value: np.ndarray) -> np.ndarray:
        if value.dtype != object:
            return value.copy() if value.nbytes <= MOST_BYTES else value
        copied = self.known[id(value)] = value.copy()
        copied.flat[:] = [self(item) for item in value.flat]
        return copied

    def _function(self, value: types.FunctionType) -> types.FunctionType:
        if settled(value):
            return value
        cells = tuple(map(self, value.__closure__ or ()))
        copied = types.FunctionType(
            value.__code__, value.__globals__, value.__name__, self(value.__defaults__), cells or None
        )
        self.known[id(value)] = copied  # before what it holds, which may be itself
        copied.__kwdefaults__ = self(value.__kwdefaults__)
        copied.__dict__.update((key, self(item)) for key, item in vars(value).items())
        for name in ("__qualname__", "__module__", "__doc__", "__annotations__"):
            setattr(copied, name, getattr(value, name))
        return copied

    def _cell(self, value: types.CellType) -> types.CellType:
        copied = self.known[id(value)] = types.CellType()
        if _is_filled(value):
            copied.cell_contents = self(value.cell_contents)
        return copied

    def _method(self, value: types.MethodType) -> types.MethodType:
        owner, function, name = self(value.__self__), value.__func__, getattr(value, "__name__", "")
        own = getattr(type(value.__self__), name, None)
        if type(owner) is not type(value.__self__) and own is function:  # another class stands in
            function = getattr(type(owner), name, function)
        return types.MethodType(self(function), owner)

    def _builtin(self, value: Any) -> Any:
        owner = self(value.__self__)
        return value if owner is value.__self__ else getattr(owner, value.__name__)

    def _weak(self, value: weakref.ReferenceType[Any]) -> Any:
        target = value()
        if target is None:
            return value
        if type(value) is weakref.WeakMethod:  # its callback is its own
            return weakref.WeakMethod(self(target))
        return weakref.ref(self(target), self(value.__callback__))

    def _proxy(self, value: Any) -> Any:
        target = _target(value)
        return value if target is None else weakref.proxy(self(target))

    def _weak_dict(self, value: Any) -> Any:
        copied = self.known[id(value)] = type(value)()
        for key, item in value.items():
            copied[self(key)] = self(item)
        return copied

    def _view(self, value: types.MappingProxyType[Any, Any]) -> types.MappingProxyType[Any, Any]:
        return types.MappingProxyType(self(gc.get_referents(value)[0]))

    def _cached(self, value: Any) -> Any:
        return functools.lru_cache(**value.cache_parameters())(self(value.__wrapped__))

    def _object(self, value: Any) -> Any:
        """Copy an object as the ``copy`` module does it. One that holds nothing of the model is shared where
        it is large or cannot be copied.
        """
        if id(value) in self._large:
            return value
        is_of_model, is_large = self._weighed(value)
        if is_large and not is_of_model:
            self._large[id(value)] = value
            return value
        try:
            return self._made(value)
        except Exception:
            if is_of_model:
                raise
            self.known.pop(id(value), None)
            return value

    def _made(self, value: Any) -> Any:
        if hasattr(type(value), "__deepcopy__"):
            return value.__deepcopy__(self.known)
        made = value.__reduce_ex__(4)
        if isinstance(made, str):  # the name of something global
            return value
        function, args, state, items, pairs = (*made, *[None] * 5)[:5]
        if state is None and items is None and pairs is None and settled(args):
            return value  # it has no state: a mark, an unbound method
        copied = self.known[id(value)] = function(*map(self, args))
        if state is not None:
            self._set_state(copied, state)
        for item in items or ():
            copied.append(self(item))
        for key, item in pairs or ():
            copied[self(key)] = self(item)
        return copied

    def _set_state(self, copied: Any, state: Any) -> None:
        if hasattr(type(copied), "__setstate__"):
            copied.__setstate__(self(state))
            return
        fields, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
        if fields:
            vars(copied).update((key, self(item)) for key, item in fields.items())
        for key, item in (slots or {}).items():
            object.__setattr__(copied, key, self(item))  # also of a frozen class

    def _weighed(self, value: Any) -> tuple[bool, bool]:
        """Return whether an object holds something of the model, or a module; and whether it is large."""
        count = size = 0
        for item in reached(value):
            if isinstance(item, nn.Module) or (isinstance(item, Tensor) and id(item) in self.known):
                return True, False
            count, size = count + 1, size + _bytes(item)
        return False, count > MOST_OBJECTS or size > MOST_BYTES

    _KINDS: ClassVar[dict[type, Callable[[Any, Any], Any]]] = {
        list: _list,
        dict: _dict,
        OrderedDict: _dict,
        tuple: _set,
        set: _set,
        frozenset: _set,
        np.ndarray: _array,
        types.FunctionType: _function,
        types.CellType: _cell,
        types.MethodType: _method,
        **dict.fromkeys(_BUILTIN, _builtin),
        weakref.ReferenceType: _weak,
        weakref.WeakMethod: _weak,
        **dict.fromkeys(weakref.ProxyTypes, _proxy),
        weakref.WeakKeyDictionary: _weak_dict,
        weakref.WeakValueDictionary: _weak_dict,
        weakref.WeakSet: _set,
        types.MappingProxyType: _view,
        _LRU: _cached,
    }


def own_copy(tensor: Tensor) -> Tensor:
    """Return a copy of a tensor that is no parameter or buffer of the model, with a history of its own."""
    copied = tensor.detach().clone()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(copied, tensor.requires_grad)
    return copied.requires_grad_(tensor.requires_grad) if tensor.is_leaf else copied


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return value.nbytes if isinstance(value, np.ndarray) else 0
