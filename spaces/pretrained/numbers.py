"""The numbers of a model's config, and which axes of its tensors follow which of them. [O]

A model of Hugging Face's transformers is made of its config alone. Each number in the config is doubled once
and the model made on the meta device, without memory: the axes that are twice as long follow that number.
Axes that follow the same numbers are equally long in every model that a plain config describes.
"""

from __future__ import annotations

import contextlib
import copy
import io
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from spaces.errors import InputError

Axis = tuple[str, int]
"""A tensor's name and the number of its axis."""
Path = tuple[str | int, ...]
"""Where a number stands in a config: names of parts, a name, perhaps a place in a list."""
Shapes = Mapping[str, tuple[int, ...]]

_NO_WIDTH = re.compile(
    r"token|vocab|layers|depths|prob|drop|eps$|_std|range|theta|version|seed|position|stride|kernel|image|patch"
    r"|label|penalty|beam|length"
)
"""Names of numbers that are no widths."""


@dataclass(frozen=True)
class Numbers:
    """The numbers that widths follow.

    Attributes:
        values: where a number stands -> what it is, also where the config leaves it to the model.
        follows: axis -> the numbers that it is proportional to.
        implied: those of the numbers that the config leaves to the model.
        multiples: those that may not be one less.
    """

    values: dict[Path, float]
    follows: dict[Axis, frozenset[Path]]
    implied: frozenset[Path] = frozenset()
    multiples: tuple[Path, ...] = ()

    @classmethod
    def of(cls, model: Any) -> Numbers:
        """Find them for a model with a config.

        Raises:
            InputError: the model cannot be made of its config.
        """
        made = made_of(model, model.config)
        if isinstance(made, str):
            raise InputError(f"space.uniform: {type(model).__name__} is not made of its config ({made})")
        base, found = shapes_of(made), dict(_numbers(model.config))
        guesses = {path: _implied(model, path, base) for path, value in found.items() if value is None}
        implied: dict[Path, float] = {path: value for path, value in guesses.items() if value is not None}
        values = {path: value for path, value in (found | implied).items() if value is not None}
        config = changed(model.config, implied)
        follows: dict[Axis, set[Path]] = defaultdict(set)
        for path, value in values.items():
            for axis in _following(model, config, path, value, base):
                follows[axis].add(path)
        widths = {paths for axes in follows.values() for paths in axes}
        multiples = tuple(
            path
            for path, value in values.items()
            if path in widths and isinstance(made_of(model, config, {path: value - 1}), str)
        )
        return cls(
            values,
            {axis: frozenset(paths) for axis, paths in follows.items()},
            frozenset(implied),
            multiples,
        )

    def alike(self) -> list[list[Axis]]:
        """Return the axes that follow the same numbers, together, as do those of a number that has to be a
        multiple of the heads.
        """
        groups: dict[frozenset[Path], list[Axis]] = defaultdict(list)
        for axis, paths in self.follows.items():
            groups[paths].append(axis)
        for path in self.multiples:
            heads = [paths for paths in groups if any(is_heads(p) and p[:-1] == path[:-1] for p in paths)]
            own = groups[frozenset([path])]
            for paths in heads:
                if path not in paths and len(paths) > 1:
                    own += groups.pop(paths)
        return [*groups.values()]


def is_heads(path: Path) -> bool:
    """Whether a number is that of the heads whose queries an attention has."""
    return bool(re.search(r"head", _name(path)) and not re.search(r"dim|size|key_value", _name(path)))


def _name(path: Path) -> str:
    return next(step for step in reversed(path) if isinstance(step, str))


def configured(model: nn.Module) -> tuple[str, Any] | None:
    """Return the model of transformers in a model, and its path: the model itself, or the only one within a
    wrapper; None where there is none.
    """
    found = [(path, module) for path, module in model.named_modules() if _is_configured(module)]
    if not found:
        return None
    first = found[0][0]
    alone = not first or all(path == first or path.startswith(f"{first}.") for path, _ in found)
    return found[0] if alone else None


def _is_configured(module: nn.Module) -> bool:
    kind = type(module)
    return (
        kind.__module__.startswith("transformers.models.")
        and hasattr(kind, "_from_config")
        and hasattr(getattr(module, "config", None), "to_json_string")
    )


def made_of(model: Any, config: Any, values: Mapping[Path, float] | None = None) -> nn.Module | str:
    """Return a model of the same class without memory, of a config with other numbers, or why there is
    none.
    """
    try:
        # a config that does not fit is refused in many ways, some of which print
        with torch.device("meta"), contextlib.redirect_stderr(io.StringIO()):
            return type(model)(valid(changed(config, values or {})))
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"


def valid(config: Any) -> Any:
    """Return a config that its own checks, which saving and loading make, have nothing against."""
    config.validate()
    return config


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all parameters and buffers, those that are tied under all names."""
    return {name: tuple(tensor.shape) for name, tensor in _tensors(model)}


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def changed(config: Any, values: Mapping[Path, float]) -> Any:
    """Return a copy of a config with other numbers.

    Raises:
        ValueError: the config refuses one.
    """
    config = copy.deepcopy(config)
    for path, value in values.items():
        *parts, name = [step for step in path if isinstance(step, str)]
        holder, entry = _part(config, parts), path[-1]
        if isinstance(entry, int):
            entries = list(getattr(holder, name))
            entries[entry] = value
            setattr(holder, name, type(getattr(holder, name))(entries))
        else:
            setattr(holder, name, value)
    return config


def _part(config: Any, names: Sequence[str]) -> Any:
    for name in names:
        config = getattr(config, name)
    return config


def _numbers(config: Any, place: Path = ()) -> Iterator[tuple[Path, float | None]]:
    """Yield the numbers of a config that may be widths, those of its parts too; None for one that the model
    chooses.
    """
    for name, value in vars(config).items():
        if name.startswith("_"):
            continue
        if hasattr(value, "to_json_string"):
            yield from _numbers(value, (*place, name))
        elif _NO_WIDTH.search(name) is None:
            entries = enumerate(value) if isinstance(value, list | tuple) else [(None, value)]
            for index, entry in entries:
                path = (*place, name) if index is None else (*place, name, index)
                if entry is None and "int" in str(_annotation(config, name)):
                    yield path, None
                elif _is_free(config, name, entry):
                    yield path, entry


def _is_free(config: Any, name: str, value: object) -> bool:
    """Whether a value is a number that may become smaller: a ratio has to take fractions for that."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        return False
    if "ratio" in name and isinstance(value, int):
        try:
            changed(config, {(name,): value + 0.5})
        except Exception:  # of whatever checks the config
            return False
    return True


def _annotation(config: Any, name: str) -> object:
    for kind in type(config).__mro__:
        if name in vars(kind).get("__annotations__", {}):
            return kind.__annotations__[name]
    return ""


def _following(model: nn.Module, config: Any, path: Path, value: float, base: Shapes) -> Iterator[Axis]:
    """Yield the axes that are so many times as long with a number so many times as large."""
    for times in (2, 3):  # twice may be what another number is, and then layers can come or go
        made = made_of(model, config, {path: times * value})
        if not isinstance(made, str) and (shapes := shapes_of(made)).keys() == base.keys():
            yield from (axis for axis, size, now in _changes(base, shapes) if now == times * size)
            return


def _implied(model: Any, path: Path, base: Shapes) -> int | None:
    """Return the number that a model takes where its config has none; None where there is none."""
    largest = max(max(shape, default=1) for shape in base.values())
    tried = made_of(model, model.config, {path: 2 * largest})
    if isinstance(tried, str):
        return None
    for size in dict.fromkeys(size for _, size, _ in _changes(base, shapes_of(tried))):
        again = made_of(model, model.config, {path: size})
        if not isinstance(again, str) and shapes_of(again) == base:
            return size
    return None


def _changes(base: Shapes, shapes: Shapes) -> Iterator[tuple[Axis, int, int]]:
    """Yield the axes that have another size, with both sizes."""
    for name, shape in base.items():
        for dim, (size, now) in enumerate(zip(shape, shapes.get(name, ()), strict=False)):
            if size != now:
                yield (name, dim), size, now
