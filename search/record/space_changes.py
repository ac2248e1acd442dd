"""What of a space is not as a ledger knows it, by the names of what varies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    IntDistribution,
    json_to_distribution,
)

from spaces.base import Space, Trained
from spaces.segments import Segment

_TRIALS = "trials"


def space_changes(
    segments: Sequence[Segment],
    alleles: Mapping[str, Sequence[Any]],
    about: Mapping[str, Any],
    space: Space,
) -> list[str]:
    """Return a text for every parameter or segment that is not as it was, such as ``space: model.width, high
    was 32, is 64``; empty where a space differs in nothing that has a name.

    Args:
        segments: of the ledger.
        alleles: of the ledger's segments: what their alleles stand for, where that is known.
        about: the ledger's note of what the run is about; empty where it has none.
        space: as it is now.
    """
    declared = about.get("parameters") or {}
    now = space.distributions if isinstance(space, Trained) else {}
    if declared and now:
        found = _parameters({name: json_to_distribution(text) for name, text in declared.items()}, now)
        before = (about.get("space") or {}).get(_TRIALS)
        found += _settings(before, space.report().get(_TRIALS, {})) if before else []
    else:
        found = _segments(segments, space.segments, alleles, space.alleles)
    return [f"space: {text}" for text in found]


def _parameters(before: Mapping[str, BaseDistribution], now: Mapping[str, BaseDistribution]) -> list[str]:
    """What differs in the distributions of parameters."""
    found = [f"{name} is gone" for name in before if name not in now]
    found += [f"{name} is new" for name in now if name not in before]
    both = [(name, before[name], now[name]) for name in before if name in now]
    found += [f"{name}, {_distribution(was, is_)}" for name, was, is_ in both if was != is_]
    if not found and list(before) != list(now):
        return [f"the order of the parameters was {', '.join(before)}, is {', '.join(now)}"]
    return found


def _distribution(was: BaseDistribution, now: BaseDistribution) -> str:
    if type(was) is not type(now):
        return f"was {_kind(was)}, is {_kind(now)}"
    attributes = [name for name in ("low", "high", "log", "step", "choices") if hasattr(was, name)]
    pairs = [(name, getattr(was, name), getattr(now, name)) for name in attributes]
    changed = [
        f"{name} {_verb(name)[0]} {_plain(before)}, {_verb(name)[1]} {_plain(after)}"
        for name, before, after in pairs
        if before != after
    ]
    return " and ".join(changed)


def _kind(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return f"choices {_plain(distribution.choices)}"
    whole = "whole numbers" if isinstance(distribution, IntDistribution) else "numbers"
    return f"{whole} {distribution.low:g} to {distribution.high:g}"  # type: ignore[attr-defined]


def _verb(name: str) -> tuple[str, str]:
    return ("were", "are") if name in ("choices", "values") else ("was", "is")


def _plain(value: Any) -> str:
    """Write a value as a config would have it."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_plain, value)) + "]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs in what no genome holds: the model, its arguments, conditions, a function."""
    found = [
        f"{name} was {_plain(before.get(name))}, is {_plain(now.get(name))}"
        for name in ("model", "suggest")
        if before.get(name) != now.get(name)
    ]
    for section in ("init_args", "when"):
        was, is_ = before.get(section) or {}, now.get(section) or {}
        found += [
            f"{section} of {name} was {json.dumps(was.get(name))}, is {json.dumps(is_.get(name))}"
            for name in dict.fromkeys([*was, *is_])
            if was.get(name) != is_.get(name)
        ]
    return found


def _segments(
    before: Sequence[Segment],
    now: Sequence[Segment],
    values: Mapping[str, Sequence[Any]],
    values_now: Mapping[str, Sequence[Any]],
) -> list[str]:
    """What differs in the segments of a genome and in what their alleles stand for."""
    was, is_ = ({segment.name: segment for segment in segments} for segments in (before, now))
    found = [f"{name} is gone" for name in was if name not in is_]
    found += [f"{name} is new" for name in is_ if name not in was]
    for name in (name for name in was if name in is_):
        if list(values.get(name, ())) != list(values_now.get(name, ())):
            before_, after = _plain(list(values.get(name, ()))), _plain(list(values_now.get(name, ())))
            found.append(f"{name}, values were {before_}, are {after}")
        elif was[name].size != is_[name].size:
            found.append(f"{name}, size was {was[name].size}, is {is_[name].size}")
        elif was[name].choices != is_[name].choices:
            found.append(f"{name}, choices were {was[name].choices}, are {is_[name].choices}")
    if not found and list(was) != list(is_):
        return [f"the order of the segments was {', '.join(was)}, is {', '.join(is_)}"]
    return found
