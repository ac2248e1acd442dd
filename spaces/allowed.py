"""What stored data may name. A recipe, or the configuration in a run's folder, is data: it may have come from
anywhere, so that reading it must neither import nor call what its reader did not allow.

Allowed are our own public classes, some layers of torch, Optuna's samplers and pruners, and what the reader
names. Whether a module happens to be imported already makes no difference. Everything that turns a dotted
name into an object does so by :func:`imported`, which asks the :class:`Allowed` that is reading; where
nothing stored is being read, the name is the user's own.
"""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from typing import Any

from torch import nn

from spaces.errors import InputError
from spaces.names import current_path

_LAYERS = """
    AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d
    AdaptiveMaxPool3d AlphaDropout AvgPool1d AvgPool2d AvgPool3d BatchNorm1d BatchNorm2d BatchNorm3d Bilinear
    CELU ChannelShuffle ConstantPad1d ConstantPad2d ConstantPad3d Conv1d Conv2d Conv3d ConvTranspose1d
    ConvTranspose2d ConvTranspose3d Dropout Dropout1d Dropout2d Dropout3d ELU Embedding EmbeddingBag Flatten
    GELU GLU GRU GRUCell GroupNorm Hardshrink Hardsigmoid Hardswish Hardtanh Identity InstanceNorm1d
    InstanceNorm2d InstanceNorm3d LSTM LSTMCell LayerNorm LeakyReLU Linear LocalResponseNorm LogSigmoid
    LogSoftmax MaxPool1d MaxPool2d MaxPool3d Mish MultiheadAttention PReLU PixelShuffle PixelUnshuffle RMSNorm
    RNN RNNCell RReLU ReLU ReLU6 ReflectionPad1d ReflectionPad2d ReplicationPad1d ReplicationPad2d SELU SiLU
    Sigmoid Softmax Softmax2d Softmin Softplus Softshrink Softsign SyncBatchNorm Tanh Tanhshrink Threshold
    TransformerDecoderLayer TransformerEncoderLayer Unflatten Upsample ZeroPad1d ZeroPad2d ZeroPad3d
"""
LAYERS = frozenset(_LAYERS.split())
"""Classes of ``torch.nn`` that may be named: layers, whose constructors only compute."""
TRIALS = ("optuna.pruners", "optuna.samplers")
"""Packages all of whose public classes may be named, for the same reason."""

Names = str | Iterable[str | types.ModuleType | Callable[..., Any]]
"""What a reader allows."""

_PACKAGES = ("spaces", "spaces.models", "spaces.cells", "spaces.pretrained")
_FACE = "secateur"
_KEY = "class_path"
_DEPTH = 100  # of stored data: what they describe is made by functions that call themselves
_reading: ContextVar[Allowed | None] = ContextVar("reading", default=None)


class Allowed:
    """What stored data may name: our own public classes, layers of torch, samplers and pruners of Optuna, and
    what its reader allows.

    Args:
        names: dotted names of classes and functions; modules and packages, by name or themselves, whose
            classes are allowed, and those functions whose annotation says that they return what is needed; or
            classes and functions themselves.
        homes: our public names and the packages that export them; None: those of ``spaces``.
        remedy: makes what a reader writes to allow some names.
        place: where the data lies, for messages.

    Raises:
        InputError: something else stands among the names.
    """

    def __init__(
        self,
        names: Names = (),
        homes: Mapping[str, str] | None = None,
        remedy: Callable[[Sequence[str]], str] | None = None,
        place: str = "",
    ) -> None:
        self.names: list[str] = []
        self.objects: dict[str, Any] = {}
        for thing in [names] if isinstance(names, str) or not isinstance(names, Iterable) else names:
            self._add(thing)
        self.homes = _homes() if homes is None else homes
        self.remedy, self.place = remedy or _argument, place

    def check(self, place: str, path: object) -> None:
        """See that a name is allowed, by the name alone: nothing but our own packages is imported.

        Raises:
            InputError: it is not; the message has the line that allows it.
        """
        if not isinstance(path, str) or not path:
            raise InputError(f"{self._at(place)} is {path!r}; expected a dotted name")
        if not (self._is_users(path) or self.own(path) or _part(path)):
            raise InputError(
                f"{self._at(place)} names {path!r}, which is not allowed; to allow it: {self._remedy(path)}"
            )

    def check_within(self, place: str, data: object) -> None:
        """See that all is allowed that stands under a ``class_path``, or in an argument of one of our classes
        that takes dotted names (its ``dotted_arguments``), at any depth of plain data.

        Raises:
            InputError: of the first that is not.
        """
        left: list[tuple[str, object, int]] = [(place, data, 0)]
        seen: set[int] = set()
        while left:
            place, data, depth = left.pop()
            if _is_known(data, seen):
                continue
            if depth > _DEPTH:
                raise InputError(
                    f"{self._at(place[:60])}...: nested too deep; expected at most {_DEPTH} levels"
                )
            if isinstance(data, Mapping):
                if isinstance(data.get(_KEY), str):
                    self.check(f"{place}.{_KEY}", data[_KEY])
                    self._check_dotted(place, data)
                left += [(f"{place}.{key}", value, depth + 1) for key, value in reversed([*data.items()])]
            elif isinstance(data, list | tuple):
                left += [(f"{place}[{i}]", value, depth + 1) for i, value in reversed([*enumerate(data)])]

    def find(self, place: str, path: str, kind: type | None) -> Any:
        """Return what an allowed name means.

        Args:
            place: where the name stands.
            path: the name.
            kind: what a class has to inherit; a function may make one. None: a function.

        Raises:
            InputError: it is not allowed, cannot be imported, or is of another kind.
        """
        self.check(place, path)
        found = self.own(path) or _part(path) or self.objects.get(path)
        by_prefix = found is None and path not in self.names
        if found is None:
            with _read_by(None):  # the module is the user's: what it names itself is not stored
                found = _imported(path, self._at(place), "expected it installed or on PYTHONPATH")
        if by_prefix:
            self._check_home(place, path, found)
        found = _of_kind(found, kind, path, self._at(place))
        if by_prefix and kind is not None and not isinstance(found, type) and not _returns(found, kind):
            raise InputError(
                f"{self._at(place)} names {path!r}, a function without the annotation that it returns a "
                f"{kind.__name__}, which is not allowed; to allow it: {self._remedy(path)}"
            )
        return found

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let :func:`imported` ask here meanwhile."""
        with _read_by(self):
            yield

    def _add(self, thing: Any) -> None:
        if isinstance(thing, str):
            self.names.append(thing)
        elif isinstance(thing, types.ModuleType):
            self.names.append(thing.__name__)
        elif isinstance(thing, type | types.FunctionType | types.BuiltinFunctionType):
            name = f"{thing.__module__}.{thing.__qualname__}"
            self.names.append(name)
            self.objects[name] = thing
        else:
            raise InputError(
                f"allow: a {type(thing).__name__} stands there; expected a class, a function, a module, or "
                f"the dotted name of one"
            )

    def _check_dotted(self, place: str, spec: Mapping[str, Any]) -> None:
        """See that the dotted names among the arguments of one of our classes are allowed."""
        arguments = spec.get("init_args")
        if not isinstance(arguments, Mapping):
            return
        for name in getattr(self.own(spec[_KEY]), "dotted_arguments", ()):
            value = arguments.get(name)
            for item in value if isinstance(value, list | tuple) else [value]:
                if isinstance(item, str) and "." in item:
                    self.check(f"{place}.init_args.{name}", item)

    def _check_home(self, place: str, path: str, found: Any) -> None:
        """See that what a module has under a name was defined in what is allowed: it may import others'."""
        home = f"{getattr(found, '__module__', None)}.{getattr(found, '__qualname__', '')}"
        if not (self._is_users(home) or self.own(home) or _part(home)):
            raise InputError(
                f"{self._at(place)} names {path!r}, which is {home!r} and as such not allowed; to allow it: "
                f"{self._remedy(path)}"
            )

    def _is_users(self, path: str) -> bool:
        """Whether the reader named it: the very name, or a prefix of one without special parts."""
        if path in self.names:
            return True
        if any(not part.isidentifier() or part.startswith("__") for part in path.split(".")):
            return False
        return any(path.startswith(f"{name}.") for name in self.names if name not in self.objects)

    def own(self, path: str) -> type | None:
        """Return the public class of ours that a path names, today's or a former one."""
        path = current_path(path)
        found = self._public(path.rpartition(".")[2])
        return found if found is not None and path in self._paths(found) else None

    def paths(self) -> list[str]:
        """Return every dotted path of what may be named without being allowed; this imports it."""
        kinds = [kind for name in self.homes if (kind := self._public(name)) is not None]
        ours = [path for kind in kinds for path in self._paths(kind) if "." in path]
        return [*ours, *_parts()]

    def _public(self, name: str) -> type | None:
        """Return our public class of a bare name."""
        found = getattr(import_module(self.homes[name]), name) if name in self.homes else None
        return found if isinstance(found, type) else None

    def _paths(self, kind: type) -> list[str]:
        """Return all that a public class of ours is called: in the module that defines it, in the packages
        around that, where it is exported, and by its bare name.
        """
        name, rooms = kind.__name__, kind.__module__.split(".")
        around = [".".join(rooms[: end + 1]) for end in range(len(rooms))]
        return [name, *(f"{home}.{name}" for home in (_FACE, self.homes[name], *around))]

    def _remedy(self, path: str) -> str:
        return self.remedy(list(dict.fromkeys([*self.names, path])))

    def _at(self, place: str) -> str:
        return f"{self.place}: {place}" if self.place else place


def _argument(names: Sequence[str]) -> str:
    return f"load(path, allow=[{', '.join(map(json.dumps, names))}])"


def named_within(data: object) -> list[str]:
    """Return all text in plain data, at any depth, that may be a dotted name: what a user allows who wrote
    these data.
    """
    left, found = [data], []
    seen: set[int] = set()
    while left:
        item = left.pop()
        if _is_known(item, seen):
            continue
        if isinstance(item, str) and "." in item and all(part.isidentifier() for part in item.split(".")):
            found.append(item)
        elif isinstance(item, Mapping):
            left += item.values()
        elif isinstance(item, list | tuple):
            left += item
    return found


def _is_known(data: object, seen: set[int]) -> bool:
    """Whether a list or mapping was met before: data of YAML may hold themselves."""
    if not isinstance(data, Mapping | list) or id(data) not in seen:
        seen.add(id(data))
        return False
    return True


@contextmanager
def _read_by(reader: Allowed | None) -> Iterator[None]:
    token = _reading.set(reader)
    try:
        yield
    finally:
        _reading.reset(token)


def check_allowed(path: str, place: str) -> None:
    """See that a name may be imported, where stored data are being read.

    Raises:
        InputError: it may not.
    """
    if (reader := _reading.get()) is not None:
        reader.check(place, path)


def imported(path: str, place: str, kind: type | None = object) -> Any:
    """Return the class or function that a dotted path names, today's or a former one.

    Args:
        path: as a user writes it.
        place: where it stands.
        kind: what a class has to inherit; None: it is a function.

    Raises:
        InputError: it cannot be imported or is of another kind; where stored data are being read, also where
            it is not allowed (:class:`Allowed`).
    """
    if (reader := _reading.get()) is not None:
        return reader.find(place, path, kind)
    return _of_kind(_imported(path, place), kind, path, place)


def _imported(path: str, place: str, expected: str = "expected a dotted path") -> Any:
    module, _, name = current_path(path).rpartition(".")
    try:
        return getattr(import_module(module), name)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{place} {path!r} cannot be imported ({reason}); {expected}") from None


def _of_kind(found: Any, kind: type | None, path: str, place: str) -> Any:
    if isinstance(found, type):
        if kind is None or not issubclass(found, kind):
            wanted = "a function" if kind is None else f"a subclass of {kind.__module__}.{kind.__name__}"
            raise InputError(f"{place} {path!r} is not of the kind needed; expected {wanted}")
    elif not callable(found):
        raise InputError(f"{place} {path!r} is a {type(found).__name__}; expected a class or function")
    return found


def _returns(function: Callable[..., Any], kind: type) -> bool:
    """Whether a function is annotated to return a class of the kind."""
    try:
        found = typing.get_type_hints(inspect.unwrap(function)).get("return")
    except Exception:  # annotations may name anything
        return False
    return isinstance(found, type) and issubclass(found, kind)


def _part(path: str) -> type | None:
    """Return the layer of torch, or the class of Optuna, that a path names."""
    return _parts().get(path) if path.startswith(("torch.nn.", "optuna.")) else None


@cache
def _parts() -> dict[str, type]:
    """Return all layers of torch and classes of Optuna that may be named, by where they are exported and
    where they are defined.
    """
    found = {f"torch.nn.{name}": getattr(nn, name) for name in LAYERS}
    for package in TRIALS:
        module = import_module(package)
        kinds = {name: getattr(module, name) for name in module.__all__}
        found |= {f"{package}.{name}": kind for name, kind in kinds.items() if isinstance(kind, type)}
    return found | {f"{kind.__module__}.{kind.__qualname__}": kind for kind in found.values()}


@cache
def _homes() -> dict[str, str]:
    return {name: package for package in _PACKAGES for name in import_module(package).__all__}
