"""Names of a package that are imported when they are first used."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import Any

from spaces.names import renamed


def lazily(package: str, homes: Mapping[str, str], former: Collection[str] = ()) -> Callable[[str], Any]:
    """Return a ``__getattr__`` for a package.

    Args:
        package: its ``__name__``.
        homes: name -> module that it comes from.
        former: names of before something was renamed; they still work, with a DeprecationWarning.
    """

    def find(name: str) -> Any:
        if name in former:
            return renamed(package, name)
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return find
