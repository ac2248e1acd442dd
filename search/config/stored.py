"""The configuration in the folder of a run. It is data, which may have come from anywhere: what it names is
imported only where it is a public class of ours, a layer of torch, or allowed by the one who reads it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace, _common, set_parsing_settings

from search.config.class_paths import CLASSES
from spaces.allowed import Allowed, named_within
from spaces.errors import InputError

Section = TypeVar("Section")


class StoredConfig:
    """A configuration that is data to the one who reads it.

    Args:
        source: the file.
        words: of the command line: the classes that they name are allowed, too.
        homes: our public names and the packages that export them.
        allow: dotted names, and prefixes of them, that the reader allows.
    """

    def __init__(
        self, source: Path, words: Sequence[str], homes: Mapping[str, str], allow: Sequence[str]
    ) -> None:
        self.source, self.words = source, list(words)
        names = [*allow, *named_within(_classes(words))]
        self.allowed = Allowed(names, homes, _options, str(source))
        self.folders = [Path.cwd()] if names else []
        """Where modules are looked for beside Python's own places. Those that the file names do not count:
        what lies there could stand in for any module that is not installed.
        """

    def check(self) -> None:
        """See that all is allowed that the file names.

        Raises:
            InputError: of the first that is not.
        """
        for key, value in self._read().items():
            if key in CLASSES:
                for item in value if isinstance(value, list) else [value]:
                    if isinstance(item, str):
                        self.allowed.check(str(key), item)
            self.allowed.check_within(str(key), value)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let nothing be imported by name meanwhile but what is allowed, also by the parser; where any value
        may stand, the parser makes no object: whoever is given the value knows what it needs.
        """
        before, importable = dict(_common.parsing_settings), self._importable
        try:
            set_parsing_settings(
                import_path_denylist=["*"],
                import_path_allowlist=importable,
                instantiate_subclass_spec_in_any=False,
            )
            with self.allowed.reading():
                yield
        finally:
            _common.parsing_settings.clear()
            _common.parsing_settings.update(before)

    def check_cluster(self, config: Namespace) -> None:
        """See that the reader named the cluster: what it answers is unpickled.

        Raises:
            InputError: the file alone names one.
        """
        address = config.ray.address
        if address is not None and not any(word.startswith("--ray.address") for word in self.words):
            raise InputError(
                f"{self.source}: ray.address names the cluster {address!r}, whose answers run code here; "
                f"expected --ray.address {shlex.quote(str(address))} if you trust it, or --ray.address null"
            )

    def explain(self, message: str) -> str | None:
        """Return the line on what the parser would not import, None where that is not what it says."""
        denied = re.search(r"Importing '([^']+)' is not allowed", message)
        place = re.search(r'Parser key "([^"]+)"', message)
        try:
            self.allowed.check(place[1] if place else "config", denied[1] if denied else None)
        except InputError as error:
            return str(error) if denied else None
        return None

    def section(self, name: str, kind: type[Section], words: Sequence[str] = ()) -> Section:
        """Return a section of plain values; nothing that the file names elsewhere is looked at.

        Args:
            name: of the section.
            kind: its class.
            words: of the command line, ``--name.key VALUE``, which count more than the file.

        Raises:
            InputError: a key or a value that is not accepted.
        """
        found = self._read().get(name)
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(kind, name)
        try:
            stored = parser.parse_object({name: found} if isinstance(found, Mapping) else {})
            return kind(**vars(parser.parse_args(list(words), namespace=stored)[name]))
        except ArgumentError as error:
            raise InputError(f"{self.source}: {name}: {' '.join(str(error).split())[:300]}") from None

    def _read(self) -> Mapping[object, Any]:
        try:
            found = yaml.safe_load(self.source.read_text())
        except OSError as error:
            raise InputError(
                f"{self.source}: cannot be read ({error.strerror}); expected the configuration of a run"
            ) from None
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"{self.source}: not YAML ({' '.join(str(error).split())[:160]})") from None
        return found if isinstance(found, Mapping) else {}

    @cached_property
    def _importable(self) -> list[str]:
        """All dotted names that the parser may import: it asks where a class is defined, too."""
        dotted = [name for name in self.allowed.names if all(map(str.isidentifier, name.split(".")))]
        users = [name for name in dotted if name.partition(".")[0] != "jsonargparse"]  # it refuses itself
        return [*self.allowed.paths(), *users]


def as_data(value: Any) -> Any:
    """Return a value with what the parser left as it is, where any value may stand, as plain data."""
    if isinstance(value, Namespace):
        return value.as_dict()
    if isinstance(value, list):
        return [as_data(item) for item in value]
    return {key: as_data(item) for key, item in value.items()} if type(value) is dict else value


def _classes(words: Sequence[str]) -> list[Any]:
    """Return what a command line says of classes."""
    said: list[Any] = []
    for before, word in zip(["", *words], words, strict=False):
        option, _, text = word.partition("=") if word.startswith("--") else (before, "", word)
        if option.removeprefix("--").rstrip("+").partition(".")[0] in CLASSES:
            try:
                said.append(yaml.safe_load(text))
            except (yaml.YAMLError, RecursionError):
                said.append(text)
    return said


def _options(names: Sequence[str]) -> str:
    return " ".join(f"--allow {shlex.quote(name)}" for name in names)
