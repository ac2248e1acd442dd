"""Class paths as people write them, bare or of former times, become the dotted paths of today."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from spaces.errors import InputError
from spaces.names import current_path
from spaces.pretrained.named import by_name

CLASSES = ("model", "data", "space", "evaluators", "strategy", "criteria", "listeners")
"""Keys of a config below which a value on the command line may be a class."""
_NAME = re.compile(r"[A-Z]\w*|(\w+\.)+[A-Z]\w*")


class ClassPaths:
    """Completes what stands under ``class_path``: ``Evolution`` becomes ``search.Evolution``.

    Args:
        homes: public name -> the package that exports it.
    """

    def __init__(self, homes: Mapping[str, str]) -> None:
        self.homes = homes

    def path(self, name: str, place: str) -> str:
        """Return the dotted path of a public name, or of a path whose class has moved; others as they are.

        Raises:
            InputError: a bare name that is nearly one of ours.
        """
        if name in self.homes:
            return f"{self.homes[name]}.{name}"
        near = [] if "." in name else difflib.get_close_matches(name, self.homes, n=1, cutoff=0.75)
        if near:
            raise InputError(
                f"{place}: no class {name!r}; did you mean {near[0]!r}? expected a public name of Secateur "
                f"or "
                f"'module.Class'"
            )
        return current_path(name)

    def within(self, value: Any, place: str = "") -> Any:
        """Return a config, or a part of one, with every ``class_path`` in it completed; `place`
        is its key.
        """
        if isinstance(value, Mapping):
            value = by_name(value)
            return {
                key: self.path(item, place)
                if key == "class_path" and isinstance(item, str)
                else self.within(item, f"{place}.{key}".lstrip(".").removesuffix(".init_args"))
                for key, item in value.items()
            }
        return [self.within(item, place) for item in value] if isinstance(value, list) else value

    def config(self, source: Path) -> str:
        """Return what the parser is to read: the file itself where all its paths are complete, else its text
        with complete ones.
        """
        found = yaml.safe_load(source.read_text())
        complete = self.within(found)
        return str(source) if complete == found else yaml.safe_dump(complete, sort_keys=False)

    def words(self, words: Sequence[str]) -> list[str]:
        """Return the words of a command line with complete paths."""
        return [self._word(word, words[place - 1] if place else "") for place, word in enumerate(words)]

    def _word(self, word: str, before: str) -> str:
        option, is_joined, value = word.partition("=") if word.startswith("--") else (before, "", word)
        if option.removeprefix("--").partition(".")[0] not in CLASSES or not value:
            return word
        complete = self._value(value, option.removeprefix("--").removesuffix(".class_path"))
        return f"{option}={complete}" if is_joined else complete

    def _value(self, text: str, place: str) -> str:
        if text[0] not in "[{":
            return self.path(text, place) if _NAME.fullmatch(text) else text
        try:
            found = yaml.safe_load(text)
        except yaml.YAMLError:
            return text  # the parser says what is wrong with it
        complete = self.within(found, place)
        return text if complete == found else json.dumps(complete)
