"""What makes a run this run and no other: plain text that two calls can compare and a person can read."""

from __future__ import annotations

import functools
import hashlib
import inspect
import types
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spaces.callables import code_of
from spaces.names import is_own, public_name
from spaces.redaction import is_secret, redacted

FORMAT = "2"
"""Of the lines that :func:`describe` makes; an identity says under ``format`` which one it has."""
_DEPTH = 8


def describe(name: str, value: object) -> dict[str, str]:
    """Flatten an object into lines of text: its public name, and below it every argument of its constructor,
    ``strategy.population: 48``.

    An argument is read from the attribute or property of that name, from that name with an underscore, or
    from what a method ``settings()`` of the object returns. No other private attribute counts. So call it
    before the object is bound or started. The same object comes out the same in every process: no addresses,
    no order of sets, arrays by their contents. Secrets are left out: a run is the same with another password.
    An argument that the class names in ``later_arguments`` has no line where it is None: runs of before there
    was such an argument are those that do not use it.

    Args:
        name: what the lines begin with.
        value: a strategy, an evaluator, a list of them, a plain value.
    """
    lines: dict[str, str] = {}
    _describe(name, value, lines, _DEPTH)
    return without_secrets(lines)


def take_former_defaults(name: str, value: object, stored: Mapping[str, str]) -> bool:
    """Let an object have the defaults of the time when a run began, where it leaves to us what they are.

    A class whose arguments have got another default names the former ones in ``former_defaults``. Where such
    an argument has today's default, and the run was written with the former one, the attribute is set to it.

    Args:
        name: what the lines begin with, as for :func:`describe`.
        value: likewise; it is changed in place.
        stored: the identity of the run.

    Returns:
        whether anything was changed.
    """
    return _take_former_defaults(name, value, stored, _DEPTH)


def _take_former_defaults(name: str, value: object, stored: Mapping[str, str], depth: int) -> bool:
    if depth == 0 or plain_text(value) is not None or isinstance(value, functools.partial):
        return False
    if isinstance(value, Mapping):
        below = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        below = [(str(index), item) for index, item in enumerate(value)]
    else:
        below = [*arguments(value).items()]
    changed = False
    former = getattr(type(value), "former_defaults", {})
    today = inspect.signature(type(value)).parameters if former else {}
    for key, argument in below:
        line = stored.get(f"{name}.{key}")
        if key in former and argument == today[key].default and line == plain_text(former[key]):
            setattr(value, key, former[key])
            changed = True
        else:
            changed |= _take_former_defaults(f"{name}.{key}", argument, stored, depth - 1)
    return changed


def without_secrets(lines: Mapping[str, str]) -> dict[str, str]:
    """Return the lines of an identity without the secrets among them."""
    return {key: redacted(text, next(filter(is_secret, key.split(".")), key)) for key, text in lines.items()}


def _describe(name: str, value: object, lines: dict[str, str], depth: int) -> None:
    plain = plain_text(value)
    if plain is not None:
        lines[name] = plain
    elif isinstance(value, functools.partial):
        _describe(name, (value.func, value.args, value.keywords), lines, depth)
    elif depth == 0:
        lines[name] = public_name(type(value))
    elif isinstance(value, Mapping):
        lines[name] = "" if value else "{}"
        for key in sorted(value, key=str):
            _describe(f"{name}.{key}", value[key], lines, depth - 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _describe(f"{name}.{index}", item, lines, depth - 1)
    else:
        lines[name] = public_name(type(value))
        later = getattr(type(value), "later_arguments", ())
        for key, argument in sorted(arguments(value).items()):
            if argument is None and key in later:
                continue
            _describe(f"{name}.{key}", argument, lines, depth - 1)


def plain_text(value: object) -> str | None:
    """Return the text of a value that fits one line; None of anything that has parts."""
    if value is None or isinstance(value, bool | int | float | str | bytes | Path | np.generic):
        return str(value.value if isinstance(value, Enum) else value)
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, nn.Module):
        return f"{public_name(type(value))} {weights_digest(value)}"
    if isinstance(value, Tensor | np.ndarray):
        return array_digest(value)
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType | types.MethodType):
        return public_name(value)
    if isinstance(value, set | frozenset):
        return " ".join(sorted(str(item) for item in value))
    if isinstance(value, list | tuple) and all(
        item is None or isinstance(item, bool | int | float | str) for item in value
    ):
        return ", ".join(str(item) for item in value)
    return None


def arguments(value: object) -> dict[str, Any]:
    """Return the arguments that an object was constructed with, as far as it tells.

    Where somebody else's class keeps one of them under another name, its public attributes are returned, too.

    Raises:
        TypeError: a class of ours does not tell one of them.
    """
    told = getattr(type(value), "settings", None)
    if isinstance(told, types.FunctionType) and told.__code__.co_argcount == 1:
        return dict(told(value))
    names, kept = _constructor(type(value)), _attributes(value)
    found = {name: kept[key] for name in names for key in (f"_{name}", name) if key in kept}
    # what is no attribute of the object may be a property of its class
    found |= {
        name: getattr(value, name)
        for name in names
        if name not in found and isinstance(getattr(type(value), name, None), property)
    }
    if hidden := [name for name in names if name not in found]:
        if is_own(type(value)):
            raise TypeError(
                f"{type(value).__name__} keeps {', '.join(hidden)} under no attribute of that name: it needs "
                f"a method settings() that returns the arguments of its constructor"
            )
        found |= {key: attribute for key, attribute in kept.items() if not key.startswith("_")}
    return found


def _constructor(kind: type) -> list[str]:
    """Return the names of a constructor's arguments; none where they are written in C and not told."""
    starred = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    try:
        parameters = inspect.signature(kind).parameters
    except ValueError:
        return []
    return [name for name, one in parameters.items() if one.kind not in starred]


def _attributes(value: object) -> dict[str, Any]:
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    return {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(
        value, "__dict__", {}
    )


@dataclass(frozen=True)
class Identity:
    """What a run is, in today's lines and in those of format 1.

    Attributes:
        lines: of today's format.
        former: the same in format 1, to be held against runs that were written then.
    """

    lines: Mapping[str, str]
    former: Mapping[str, str] = field(default_factory=dict)

    def __or__(self, other: Identity) -> Identity:
        return Identity({**self.lines, **other.lines}, {**self.former, **other.former})

    def only(self, sections: Collection[str]) -> Identity:
        """Return the lines of some sections: what stands before the first dot of their keys."""
        return Identity(_of(self.lines, sections), _of(self.former, sections))

    def has_format_of(self, stored: Mapping[str, str]) -> bool:
        """Whether a stored identity is of today's format."""
        return stored.get("format") == self.lines.get("format")

    def differences(self, stored: Mapping[str, str], sections: Collection[str] = ()) -> list[str]:
        """Return what is not as a ledger has it, a text a line: see :meth:`changes`."""
        changes = self.changes(stored, sections)
        return [f"{key} (was {_short(was)}, is {_short(now)})" for key, (was, now) in changes.items()]

    def changes(
        self, stored: Mapping[str, str], sections: Collection[str] = ()
    ) -> dict[str, tuple[str | None, str | None]]:
        """Return what is not as a ledger has it: key -> what it was and what it is, None where there is none.

        Of an identity of format 1 the lines that both have are compared: what an object no longer says
        follows from the rest, and what is new was not written then.

        Args:
            stored: the identity in the ledger, of either format.
            sections: compare these alone; empty: everything.
        """
        here = self.only(sections) if sections else self
        before = _of(stored, sections) if sections else dict(stored)
        if self.has_format_of(stored):
            return _changes(before, here.lines)
        common = [key for key in before if key in here.former]
        return _changes({key: before[key] for key in common}, {key: here.former[key] for key in common})


def _of(lines: Mapping[str, str], sections: Collection[str]) -> dict[str, str]:
    return {key: text for key, text in lines.items() if key.partition(".")[0] in sections}


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return ``key (was ..., is ...)`` for every line that is not the same in both, in the order of the
    lines; secrets are not compared.
    """
    changes = _changes(before, now)
    return [f"{key} (was {_short(was)}, is {_short(is_)})" for key, (was, is_) in changes.items()]


def _changes(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    before, now = without_secrets(before), without_secrets(now)
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return {key: (before.get(key), now.get(key)) for key in keys}


def _short(value: str | None) -> str:
    if value is None:
        return "absent"
    return value if len(value) <= 40 else f"{value[:37]}..."


# -- digests -------------------------------------------------------------------------------------------------


def array_digest(array: Tensor | np.ndarray) -> str:
    """Return a short hash of dtype, shape and contents."""
    digest = hashlib.sha256()
    _feed(digest, array)
    return digest.hexdigest()[:16]


def weights_digest(model: nn.Module) -> str:
    """Return a short hash of a model's parameters and buffers, with their names; ``-`` where it has none."""
    state = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        _feed(digest, state[name])
    return digest.hexdigest()[:16] if state else "-"


def _feed(digest: hashlib._Hash, array: Tensor | np.ndarray) -> None:
    digest.update(f"{array.dtype}{tuple(array.shape)}".encode())
    if isinstance(array, Tensor):
        array = array.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    digest.update(np.ascontiguousarray(array).tobytes())


def source_digest(model: nn.Module) -> str:
    """Return a short hash of what the classes of a model that are the user's own do in ``forward``.

    Of every such class: the code of ``forward`` and of the methods that it names, without comments,
    docstrings and layout. Torch's classes and ours are left out: their versions are kept elsewhere. ``-``
    where there is none.
    """
    kinds = {public_name(type(module)): type(module) for module in model.modules()}
    texts = [f"{name}: {_code(kind)}" for name, kind in sorted(kinds.items()) if not _is_library(kind)]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16] if texts else "-"


def _is_library(kind: type) -> bool:
    return is_own(kind) or kind.__module__.partition(".")[0] == "torch"


def _code(kind: type) -> str:
    """Return the syntax trees of ``forward`` and of the methods that it calls, class by class."""
    methods = dict(_methods(kind, "forward", {}))
    return " ".join(f"{name} {code_of(method)}" for name, method in sorted(methods.items()))


def _methods(kind: type, name: str, found: dict[str, Any]) -> dict[str, Any]:
    for owner in kind.__mro__:
        method = vars(owner).get(name)
        key = f"{public_name(owner)}.{name}"
        if not isinstance(method, types.FunctionType) or _is_library(owner) or key in found:
            continue
        found[key] = method
        for called in method.__code__.co_names:
            _methods(kind, called, found)
    return found
