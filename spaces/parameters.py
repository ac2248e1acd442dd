"""Parameters of trials: how a config declares them, and how their values lie in eight bytes."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import BaseTrial

from spaces.errors import InputError, require

Value = None | bool | int | float | str
"""What a parameter may be: that which Optuna takes."""

SIZE = 8
INACTIVE = struct.pack("<d", math.nan)
"""The bytes of a conditional parameter that is not asked for."""

_ACCEPTED = (
    "expected {low: 1e-4, high: 1e-1, log: true}, {low: 1, high: 4, step: 1} or {choices: [a, b]}, each "
    "with a `when` or without"
)
_LARGEST = 2**53


@dataclass(frozen=True)
class Declared:
    """The parameters of a config as a define-by-run function: parents come before those that depend on them.

    Attributes:
        distributions: by name.
        conditions: name -> parent -> the parent's values with which the parameter is asked for; all parents
            must agree.
    """

    distributions: dict[str, BaseDistribution]
    conditions: dict[str, dict[str, tuple[Value, ...]]]

    def __call__(self, trial: BaseTrial) -> None:
        values: dict[str, Value] = {}
        for name, distribution in self.distributions.items():
            if all(
                parent in values and values[parent] in accepted
                for parent, accepted in self.conditions.get(name, {}).items()
            ):
                values[name] = ask(trial, name, distribution)


def declared(parameters: Mapping[str, Any]) -> Declared:
    """Read what a config says of its parameters.

    Raises:
        InputError: of the first parameter that is not understood, or that depends on what is not there or on
            itself.
    """
    known: dict[str, BaseDistribution] = {}
    conditions: dict[str, dict[str, tuple[Value, ...]]] = {}
    for name, given in parameters.items():
        place = f"space: parameters.{name}"
        if isinstance(given, BaseDistribution):
            known[name] = given
            continue
        if not isinstance(given, Mapping):
            raise InputError(f"{place}: {given!r} is not accepted; {_ACCEPTED}")
        known[name] = _distribution(place, {key: value for key, value in given.items() if key != "when"})
        when = given.get("when")
        if when is None:
            continue
        if not isinstance(when, Mapping) or not when:
            raise InputError(
                f"{place}: when {when!r} is not accepted; expected {{other: value}} or {{other: [values]}}"
            )
        conditions[name] = {
            parent: tuple(values) if isinstance(values, list | tuple) else (values,)
            for parent, values in when.items()
        }
    for name, parents in conditions.items():
        _check_condition(name, parents, known)
    return Declared({name: known[name] for name in _in_order(known, conditions)}, conditions)


def ask(trial: BaseTrial, name: str, distribution: BaseDistribution) -> Value:
    """Have a trial suggest a value of a distribution."""
    d = distribution
    if isinstance(d, FloatDistribution):
        return trial.suggest_float(name, d.low, d.high, step=d.step, log=d.log)
    if isinstance(d, IntDistribution):
        return trial.suggest_int(name, d.low, d.high, step=d.step, log=d.log)
    assert isinstance(d, CategoricalDistribution)
    return trial.suggest_categorical(name, d.choices)


def draw(distribution: BaseDistribution, rng: np.random.Generator) -> float:
    """Return a value at random, in Optuna's internal representation; uniform, or uniform in the logarithm."""
    d = distribution
    if isinstance(d, CategoricalDistribution):
        return float(rng.integers(len(d.choices)))
    assert isinstance(d, FloatDistribution | IntDistribution)
    if d.step is not None and not d.log:
        return nearest(d, d.low + d.step * int(rng.integers(round((d.high - d.low) / d.step) + 1)))
    if d.log:
        margin = 0.5 if isinstance(d, IntDistribution) else 0.0
        return nearest(d, math.exp(rng.uniform(math.log(d.low - margin), math.log(d.high + margin))))
    return nearest(d, rng.uniform(d.low, d.high))


def nearest(distribution: BaseDistribution, value: float) -> float:
    """Return the nearest value that the distribution has, in Optuna's internal representation."""
    d = distribution
    if isinstance(d, CategoricalDistribution):
        low, high, step = 0, len(d.choices) - 1, 1
    else:
        low, high, step = d.low, d.high, d.step  # type: ignore[attr-defined]
    value = low if math.isnan(value) else min(max(value, low), high)
    if step is not None:
        value = min(math.floor((value - low) / step + 0.5) * step + low, high)
    return float(value) + 0.0  # of the two zeros the positive one


def to_bytes(value: float) -> bytes:
    """Return the eight loci of a value in Optuna's internal representation."""
    return struct.pack("<d", value)


def from_bytes(raw: bytes) -> float:
    """Return the value that :func:`to_bytes` made these of."""
    return float(struct.unpack("<d", raw)[0])


def is_valid(distribution: BaseDistribution, raw: bytes) -> bool:
    """Whether eight loci are a value of the distribution."""
    return to_bytes(nearest(distribution, from_bytes(raw))) == raw


def repaired(distribution: BaseDistribution, raw: bytes) -> bytes:
    """Return a valid value from which no locus can be given back to `raw`: the nearest number, but for bytes
    that may stay as they are.
    """
    fixed = to_bytes(nearest(distribution, from_bytes(raw)))
    if fixed == raw:
        return raw
    place = 0
    while place < SIZE:
        back = fixed[:place] + raw[place : place + 1] + fixed[place + 1 :]
        if back != fixed and is_valid(distribution, back):
            fixed, place = back, 0
        else:
            place += 1
    return fixed


def _distribution(place: str, given: Mapping[str, Any]) -> BaseDistribution:
    if "choices" in given and len(given) == 1:
        return _categorical(place, given["choices"])
    numbers = {
        key: _number(value)
        for key, value in given.items()
        if key in ("low", "high", "step") and value is not None
    }
    log = given.get("log", False)
    not_understood = f"{dict(given)!r} is not accepted; {_ACCEPTED}"
    require(
        place,
        (given.keys() <= {"low", "high", "log", "step"}, not_understood),
        (isinstance(log, bool), not_understood),
        (None not in numbers.values() and {"low", "high"} <= numbers.keys(), not_understood),
    )
    try:
        if all(isinstance(number, int) for number in numbers.values()):
            # beyond it floats skip whole numbers, and a value lies in the eight bytes of a float
            if max(abs(number) for number in numbers.values() if number is not None) > _LARGEST:
                raise ValueError("whole numbers beyond 2**53")
            return IntDistribution(**numbers, log=log)  # type: ignore[arg-type]
        return FloatDistribution(**numbers, log=log)  # type: ignore[arg-type]
    except ValueError as error:
        raise InputError(f"{place}: {' '.join(str(error).split())} {_ACCEPTED}") from None


def _categorical(place: str, choices: Any) -> CategoricalDistribution:
    plain = isinstance(choices, list | tuple) and all(
        choice is None or isinstance(choice, str) or _number(choice) is not None or isinstance(choice, bool)
        for choice in choices
    )
    if not plain or not choices:
        raise InputError(
            f"{place}: choices {choices!r} are not accepted; expected a list of numbers, texts, true, false "
            f"or null"
        )
    for position, choice in enumerate(choices):
        if choice in choices[:position]:  # Optuna does not tell True and 1 apart either
            raise InputError(
                f"{place}: choice {choice!r} occurs twice; expected every one once (true is 1, false is 0)"
            )
    return CategoricalDistribution(tuple(choices))


def _number(value: Any) -> int | float | None:
    if isinstance(value, str):  # YAML 1.1 reads 1e-4 as a text
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def _check_condition(
    name: str, parents: Mapping[str, tuple[Value, ...]], known: Mapping[str, BaseDistribution]
) -> None:
    place = f"space: parameters.{name}: when"
    for parent, values in parents.items():
        distribution = known.get(parent)
        if distribution is None:
            raise InputError(f"{place}: no parameter {parent!r}; expected one of {', '.join(known)}")
        for value in values:
            try:
                ok = is_valid(distribution, to_bytes(distribution.to_internal_repr(value)))
            except ValueError:
                ok = False
            if not ok:
                raise InputError(
                    f"{place}: {parent} = {value!r} never happens; expected a value of {distribution}"
                )


def _in_order(
    known: Mapping[str, BaseDistribution], conditions: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return names so that parents come first, and else as they were given."""
    ordered: list[str] = []
    waiting = list(known)
    while waiting:
        ready = next((name for name in waiting if conditions.get(name, {}).keys() <= set(ordered)), None)
        if ready is None:
            raise InputError(
                f"space: parameters.{waiting[0]}: when depends on itself by way of {', '.join(waiting)}; "
                f"expected no circle"
            )
        ordered.append(ready)
        waiting.remove(ready)
    return ordered
