"""Identities of format 1, made of module paths and of every attribute, as far as old runs need them.

In format 1 a line stood for every attribute of an object, private and derived ones included, under the
class's module path. Here the same walk is made over today's objects with the module paths of then. What
today's objects keep elsewhere is found through :data:`PLACES`. Only lines that are in both are compared: a
line that an object no longer has follows from others, and a line that is new was not written then.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from torch import nn

from search.record.identity import Identity, describe, plain_text
from spaces.names import former_names, is_own, public_name

_DEPTH = 8

PLACES: dict[str, dict[str, str]] = {
    "LineageTraining": {
        **{
            name: f"training.{name}"
            for name in ("batch_size", "learning_rate", "optimiser", "weight_decay", "schedule", "clip")
        },
        "distillation": "training.distillation",
        "first_learning_rate": "first_rate",
    }
}
"""Name of a class in format 1 -> where it had an argument of its constructor, relative to the object."""
NEW = ("TrainingSettings",)
"""Classes that format 1 did not have: what they hold stood there without a line of their own."""


def describe_format1(name: str, value: object) -> dict[str, str]:
    """Flatten an object as format 1 did: its class, and below it every attribute."""
    lines: dict[str, str] = {}
    with former_names():
        _describe(name, value, lines, _DEPTH)
        given = describe(name, value)
    return given | _at_former_places(given) | lines


def former_training(name: str, training: object) -> dict[str, str]:
    """Return the lines of a training in format 1, all of them and in its order, of which hashes were made."""
    with former_names():
        (first, kind), *settings = describe(name, training).items()
    return {first: kind, f"{name}.teacher": "None"} | dict(settings)


def former_structure(model: nn.Module) -> str:
    """Return the text of a model's structure with the class names of format 1."""
    text = repr(model)
    with former_names():
        # of ours alone: a class of the user's may have the same name
        names = {
            kind.__name__: public_name(kind) for module in model.modules() if is_own(kind := type(module))
        }
    for name, path in names.items():
        text = re.sub(rf"\b{name}\(", f"{path.rpartition('.')[2]}(", text)
    return text


def identify(name: str, value: object) -> Identity:
    """Return what an object is, in today's lines and in those of format 1."""
    return Identity(describe(name, value), describe_format1(name, value))


def _at_former_places(given: Mapping[str, str]) -> dict[str, str]:
    """Put the arguments of classes in :data:`PLACES` under the names that format 1 had for them."""
    found = {}
    for key, text in given.items():
        owner = key
        while "." in owner:
            owner, _, _ = owner.rpartition(".")
            places = PLACES.get(given.get(owner, "").rpartition(".")[2], {})
            argument, *below = key[len(owner) + 1 :].split(".")
            if argument in places:
                found[".".join([owner, places[argument], *below])] = text
    return found


def _describe(name: str, value: object, lines: dict[str, str], depth: int) -> None:
    plain = plain_text(value)
    if plain is not None:
        lines[name] = plain
    elif isinstance(value, functools.partial):
        _describe(name, (value.func, value.args, value.keywords), lines, depth)
    elif depth == 0:
        lines[name] = public_name(type(value))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _describe(f"{name}.{index}", item, lines, depth - 1)
    elif isinstance(value, Mapping):
        lines[name] = "{}" if not value else public_name(type(value))
        for key in sorted(value, key=str):
            _describe(f"{name}.{key}", value[key], lines, depth - 1)
    else:
        if type(value).__name__ not in NEW:
            lines[name] = public_name(type(value))
        for key, attribute in sorted(getattr(value, "__dict__", {}).items()):
            _describe(f"{name}.{key.lstrip('_')}", attribute, lines, depth - 1)
