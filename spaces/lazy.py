"""Packages, and names of them, that are imported when they are first used."""

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


class LazyModule:
    """Stands for a module that costs a good part of a second, and is imported when it is first asked for
    something.

    Unlike ``importlib.util.LazyLoader`` it leaves no half-made module in ``sys.modules``, where others look.

    Args:
        name: dotted, as for ``import_module``.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # whoever looks at all that a module holds asks for these
            raise AttributeError(f"{self._name} is not imported yet: it has no {attribute}")
        return getattr(import_module(self._name), attribute)
