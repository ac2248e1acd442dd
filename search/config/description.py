"""What may stand under a key of a configuration, and what a class takes, in words."""

from __future__ import annotations

import argparse
import difflib
import inspect
from collections.abc import Mapping
from importlib import import_module

from jsonargparse import ArgumentParser
from torch import nn

from search.config.keys import KEYS
from search.config.schema import GIVEN, KINDS, SECTIONS, add
from spaces.errors import InputError


def description(name: str, homes: Mapping[str, str]) -> str:
    """Return the settings of a section or a class, or the classes that may stand under a key.

    Args:
        name: a key of the configuration, or the public name of a class.
        homes: public name -> the package that exports it.

    Raises:
        InputError: it is neither.
    """
    if name in KINDS:
        return _choice(name, homes)
    if name in KEYS:
        return _options(name)
    if name in homes and inspect.isclass(found := _public(name, homes)):
        key = next((key for key, kinds in KINDS.items() if issubclass(found, kinds)), "")
        return _options(f"{key}.init_args" if key else name, found)
    near = difflib.get_close_matches(name, [*KEYS, *homes], n=1, cutoff=0.6)
    raise InputError(
        f"--help: no key or class {name!r}; {f'did you mean {near[0]!r}? ' if near else ''}"
        f"expected one of {', '.join(KEYS)}, or a public class, as Evolution"
    )


def _choice(key: str, homes: Mapping[str, str]) -> str:
    """List our classes that fit."""
    found = {name: _public(name, homes) for name in homes}
    kinds = KINDS[key]
    rows = [
        f"  {name:20} {_first_line(kind)}"
        for name, kind in sorted(found.items())
        if inspect.isclass(kind) and issubclass(kind, kinds) and not inspect.isabstract(kind)
    ]
    if kinds == (nn.Module,):
        rows.append("  module.Class         one of yours, or a function annotated to return one")
    else:
        base = " or ".join(f"{homes.get(kind.__name__, kind.__module__)}.{kind.__name__}" for kind in kinds)
        rows.append(f"  module.Class         one of yours that inherits {base}")
    return "\n".join([f"{key}: {KEYS[key]}", "", *rows, "", "--help CLASS shows what a class takes."])


def _options(key: str, kind: type | None = None) -> str:
    """List the options of a section, a plain key or a class."""
    parser = ArgumentParser(usage=argparse.SUPPRESS, add_help=False)
    if kind is not None:
        parser.add_class_arguments(kind, key, skip=set(GIVEN) & set(inspect.signature(kind).parameters))
    else:
        add(parser, key)
    below = [f"{name}: {KEYS[name]}; --help {name}" for name in SECTIONS if name.startswith(f"{key}.")]
    return "\n".join([parser.format_help().strip(), *below])


def _public(name: str, homes: Mapping[str, str]) -> object:
    return getattr(import_module(homes[name]), name)


def _first_line(kind: type) -> str:
    text = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
    return text if len(text) <= 88 else f"{text[:85].rsplit(' ', 1)[0]} ..."
