"""What a user wants of groups, by patterns of their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from spaces.errors import InputError

Value = TypeVar("Value", bound=float)


def matching(place: str, pattern: str, names: Sequence[str]) -> list[str]:
    """Return the names that match a pattern such as ``blocks.*``, also without the number of a part
    (``name/1``).

    Raises:
        InputError: none does.
    """
    found = [
        name for name in names if fnmatchcase(name, pattern) or fnmatchcase(name.rpartition("/")[0], pattern)
    ]
    if not found:
        raise InputError(f"{place}: {pattern!r} matches no group; there are {', '.join(names)}")
    return found


def as_patterns(values: Mapping[str, Value], names: Sequence[str], default: Value) -> dict[str, Value]:
    """Return values of groups as few patterns, which :func:`by_group` makes the same values of: those that
    differ from most by their names, then the rest.
    """
    every = {name: values.get(name, default) for name in names}
    most = Counter(every.values()).most_common(1)[0][0]
    return {name: value for name, value in every.items() if value != most} | {"*": most}


def by_group(
    place: str, given: Value | Mapping[str, Value], names: Sequence[str], default: Value
) -> dict[str, Value]:
    """Return a value for every group: one for all, or by patterns, of which the first that matches counts.

    Raises:
        InputError: a pattern that matches no group.
    """
    if not isinstance(given, Mapping):
        return dict.fromkeys(names, given)
    values = dict.fromkeys(names, default)
    for pattern, value in reversed([*given.items()]):
        values.update(dict.fromkeys(matching(place, pattern, names), value))
    return values
