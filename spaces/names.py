"""What a class is called, wherever its file lies: in identities, fingerprints, configurations and recipes.

A class of ours is called by its bare name, which is unique; anybody else's by ``module.Class``. So our files
may move and nothing that was written down changes. What was written down before (format 1) holds the module
paths of that time: :mod:`spaces.former` knows them, :func:`former_names` computes hashes as of then.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from spaces.former import CLASSES, MERGED, MODULES

OWN: tuple[str, ...] = ("spaces", "operators", "evaluators", "search", "secateur")
"""Our packages."""

_MOVED = MODULES | MERGED
# today a package has the name of these, and exports what was in them
_ROOMS = {old for old, new in MODULES.items() if new.startswith(f"{old}.")}
# a class may also have been exported by a package: the path of its definition counts, which is the longest
_FORMER_CLASSES = {new: old for old, new in sorted(CLASSES.items(), key=lambda pair: pair[0].count("."))}
_FORMER_MODULES = {new: old for old, new in MODULES.items()}
_former: ContextVar[bool] = ContextVar("former", default=False)


def is_own(thing: Any) -> bool:
    """Whether a class or function is of one of our packages."""
    return str(getattr(thing, "__module__", "")).partition(".")[0] in OWN


def public_name(thing: Any) -> str:
    """Return the name of a class or function: the bare one of ours, ``module.name`` of any other.

    Within :func:`former_names` it is the dotted path that the class had in format 1.
    """
    name = getattr(thing, "__qualname__", type(thing).__qualname__)
    path = f"{getattr(thing, '__module__', '')}.{name}"
    if not is_own(thing):
        return path
    return _former_path(path) if _former.get() else name


@contextmanager
def former_names() -> Iterator[None]:
    """Let :func:`public_name`, and all hashes that are made of it, be as in format 1 meanwhile."""
    token = _former.set(True)
    try:
        yield
    finally:
        _former.reset(token)


def with_former(make: Callable[[], str]) -> tuple[str, str]:
    """Return what a function makes, and what it would have made in format 1."""
    with former_names():
        former = make()
    return make(), former


def current_path(path: str) -> str:
    """Return the dotted path of a class today, from the one that it has or had."""
    if path in CLASSES:
        return CLASSES[path]
    module, _, name = path.rpartition(".")
    if name and module in _MOVED and module not in _ROOMS:
        return current_path(f"{_MOVED[module]}.{name}")
    return path


def _former_path(path: str) -> str:
    if path in _FORMER_CLASSES:
        return _FORMER_CLASSES[path]
    module, _, name = path.rpartition(".")
    return f"{_FORMER_MODULES.get(module, module)}.{name}"


def renamed(package: str, name: str) -> Any:
    """Return what `package` exported as `name` before it was renamed: for a package's ``__getattr__``.

    Raises:
        AttributeError: `package` never had such a name.
    """
    new = CLASSES.get(f"{package}.{name}")
    if new is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    module, _, today = new.rpartition(".")
    warnings.warn(f"{package}.{name} is now {today}", DeprecationWarning, stacklevel=3)
    return getattr(importlib.import_module(module), today)


class _FormerModules(MetaPathFinder, Loader):
    """Finds modules under the paths of before they moved, for one version, and says what to write instead."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname not in _MOVED or fullname in _ROOMS:
            return None
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return ModuleType(spec.name, f"Now {_MOVED[spec.name]}.")

    def exec_module(self, module: ModuleType) -> None:
        old, new = module.__name__, _MOVED[module.__name__]
        # level 2 is the import statement: frames of the import system do not count
        warnings.warn(f"module {old} is now {new}", DeprecationWarning, stacklevel=2)

        def find(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(f"module {old!r} has no attribute {name!r}")
            home, _, today = current_path(f"{old}.{name}").rpartition(".")
            return getattr(importlib.import_module(home), today)

        module.__getattr__ = find  # type: ignore[method-assign]


def find_former_modules() -> None:
    """Make modules that moved importable under their old paths; what is there is found first."""
    if not any(isinstance(finder, _FormerModules) for finder in sys.meta_path):
        sys.meta_path.append(_FormerModules())
