"""jsonargparse's messages, of several lines and full of types, as the one line that a person needs."""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import re
from collections.abc import Sequence

from spaces.allowed import check_allowed

BESIDE = "or beside the config"
"""Where a module may lie, unless the configuration is data."""

BASES = {
    "Module": "torch.nn.Module",
    "Data": "evaluators.data.Data",
    "Space": "spaces.Space",
    "Evaluator": "evaluators.Evaluator",
    "Strategy": "search.Strategy",
    "Listener": "search.Listener",
}
"""The base classes that a config may ask for, by the name that jsonargparse knows them by."""

_WORDS = {
    "NoneType": "null",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "list": "a list",
    "tuple": "a list",
    "Sequence": "a list",
    "dict": "a mapping",
}


def explain(message: str, known: Sequence[str], given: Sequence[str] = ("model", "example")) -> str:
    """Return ``<place>: <what is wrong>; <what is accepted>``.

    Args:
        message: of jsonargparse's ArgumentError.
        known: the dotted names of all keys that the parser knows.
        given: arguments of classes that the engine gives, which a config may not.
    """
    place: list[str] = []
    chosen = ""
    what, value, kinds = "", "", ""
    for line in (line.strip().removeprefix("- ") for line in message.splitlines()):
        if match := re.match(r'Parser key "(.+)":$', line):
            place.append(match[1])
        elif match := re.match(r"Problem with given class_path '(.+)':$", line):
            chosen = match[1]
            what = "" if what.startswith("Import path ") else what  # of a union another class was tried first
        elif match := re.match(r"Subtypes: \[(.*)\]$", line):
            kinds = match[1] if not what else kinds
        elif match := re.match(r"Given value: (.*)$", line):
            value = value or match[1]  # the innermost one comes first
        elif (
            not line
            or line.startswith(("Does not validate", "Errors:", "Given value type", "Expected a path but"))
            or "<class 'NoneType'>" in line
        ):
            continue
        elif not what:
            what = line
        elif what.startswith(("Problems parsing", "while ")):
            what += ", " + line
    return _sentence(".".join(place), chosen, what, value, kinds, known, given)


def _sentence(
    place: str, chosen: str, what: str, value: str, kinds: str, known: Sequence[str], given: Sequence[str]
) -> str:
    where = f"{place} ({chosen})" if chosen and place else place
    if found := _of_key(where, chosen, what, known, given):
        return found
    if match := re.match(r"Expected an? (.+?)\. Got value: (.*)$", what):
        return f"{where}: expected {_kind(match[1])}, got {_short(match[2])}"
    if found := _of_class(place, what, value):
        return found
    if what.startswith("Expected a") and kinds:
        return f"{where}: expected {_kind(kinds)}, got {_short(value)}"
    if what.startswith(("Problems parsing config", "Unexpected config")):
        return (
            f"config: not YAML with keys and values: {_short(what.split(':', 1)[1].strip() or 'empty', 160)}"
        )
    path = chosen or _class_path(value)
    if path:
        expected = f"expected 'module.Class' that is installed, in the current folder {BESIDE}"
        return f"{place}: class_path {path!r} does not import: {_import_error(path, what)}; {expected}"
    return f"{where}: {what}" if where else what


def _of_key(where: str, chosen: str, what: str, known: Sequence[str], given: Sequence[str]) -> str:
    """The sentence on a key or option that is not known; empty where the message is another."""
    if match := re.match(r"Option '(.+)' is not accepted$", what):
        if not chosen:
            names = sorted({name.split(".")[0] for name in known})
        elif chosen in BASES.values():
            names = ["class_path", "init_args"]
        else:
            names = _parameters(chosen, given)
        return _unknown(match[1], names, where)
    if match := re.match(r"Group '(.+)' does not accept option '(.+)'$", what):
        group, *inner = f"{match[1]}.{match[2]}".split(".")
        while len(inner) > 1 and any(name.startswith(f"{group}.{inner[0]}.") for name in known):
            group = f"{group}.{inner.pop(0)}"
        return _unknown(
            ".".join(inner),
            sorted({name[len(group) + 1 :].split(".")[0] for name in known if name.startswith(group + ".")}),
            group,
        )
    if match := re.match(r"unrecognized arguments?: (\S+)", what, re.IGNORECASE):
        option = match[1].split("=")[0]
        return _unknown(
            option, [f"--{name}" for name in known], "", "the keys of the config, as --search.lag 64"
        )
    return ""


_LOADERS = (
    "; a loader, a dataset or a function that makes one goes into evaluators.data.Loaders, as train: {}"
)


def _of_class(place: str, what: str, value: str) -> str:
    """The sentence on a class that does not fit; empty where the message is another."""
    if match := re.match(r"Import path (\S+) does not correspond to a subclass of (\w+)", what):
        base = BASES.get(match[2], match[2])
        return (
            f"{place}: {match[1]} is not a {base}; expected a class that inherits {base}, or a function "
            f"annotated to return one{_LOADERS.format(match[1]) if match[2] == 'Data' else ''}"
        )
    if match := re.match(r"Not a valid subclass of (\w+)", what):
        got = _short(value or what.split("Got value: ")[-1])
        return f"{place}: expected class_path (and init_args) of a {BASES.get(match[1], match[1])}, got {got}"
    if match := re.match(r"Expected an instantiatable class, but (\S+) is abstract", what):
        return f"{place}: {match[1]} is abstract; expected a class that implements {_abstract(match[1])}"
    if "must have a supported type" in what and (
        match := re.search(r"Parameter '(\w+)' from '([\w.]+)'", what)
    ):
        return (
            f"{place}: parameter {match[1]!r} of {match[2]} has no type; annotate it, as in '{match[1]}: "
            "int', or give it a default"
        )
    return ""


def _unknown(name: str, names: Sequence[str], place: str, among: str = "") -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else ""
    accepted = f"accepted: {among or ', '.join(names) or 'none'}"
    return (
        f"{place}{': ' if place else ''}unknown {'option' if among else 'key'} {name!r}; "
        f"{hint + ' ' if hint else ''}{accepted}"
    )


def _kind(text: str) -> str:
    """Put jsonargparse's name of a type into words."""
    literals = re.search(r"(?:typing\.)?Literal\[(.+?)\]", text)
    rest = text if literals is None else text.replace(literals[0], "")
    names = [
        part.split(".")[-1]
        for part in re.findall(r"[\w.]+", re.sub(r"<class '([^']+)'>", r"\1", rest))
        if part not in ("typing.Union", "class")
    ]
    if literals is None:
        words = [_WORDS.get(name, name) for name in names]
    else:  # who may give one of some words is not told of classes
        words = [_WORDS[name] for name in names if name in _WORDS] + literals[1].split(", ")
    return " or ".join(dict.fromkeys(words))


def _short(value: str, limit: int = 60) -> str:
    value = " ".join(value.split())
    return value if len(value) <= limit else value[: limit - 3] + "..."


def _class_path(value: str) -> str:
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return ""
    return str(found.get("class_path", "")) if isinstance(found, dict) else ""


def _object(path: str) -> object:
    check_allowed(path, "class_path")
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _import_error(path: str, message: str) -> str:
    try:
        _object(path)
    except (Exception, SystemExit) as error:
        return f"{type(error).__name__}: {_short(str(error), 160)}"
    return message


def _parameters(path: str, given: Sequence[str]) -> list[str]:
    try:
        return [name for name in inspect.signature(_object(path)).parameters if name not in given]  # type: ignore[arg-type]
    except Exception:
        return []


def _abstract(path: str) -> str:
    return ", ".join(sorted(getattr(_object(path), "__abstractmethods__", ())))
