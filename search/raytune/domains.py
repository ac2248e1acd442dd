"""Ray Tune's search spaces as Optuna's distributions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from ray.tune.search.sample import Categorical, Domain, Float, Integer, LogUniform, Quantized, Uniform
from ray.tune.search.variant_generator import parse_spec_vars

from spaces.errors import InputError

_PLAIN = (bool, int, float, str, type(None))
_ACCEPTED = "expected tune.uniform, loguniform, quniform, randint, lograndint, qrandint or choice"


@dataclass(frozen=True)
class Parameter:
    """One searched value of a `param_space`.

    Attributes:
        path: keys from the outermost to the innermost dictionary.
        distribution: as Optuna draws it.
        values: the choices behind the labels that Optuna sees, where they are not plain values themselves.
    """

    path: tuple[str, ...]
    distribution: BaseDistribution
    values: Mapping[str, Any] | None = None

    def place(self, value: Any, config: dict[str, Any]) -> None:
        """Write a value that Optuna drew into a nested configuration."""
        for key in self.path[:-1]:
            config = config.setdefault(key, {})
        config[self.path[-1]] = value if self.values is None else self.values[value]


def parameters(param_space: Mapping[str, Any]) -> dict[str, Parameter]:
    """Return what a `param_space` leaves open, by names such as ``optimiser/rate``; constants stay Ray's
    business.

    Raises:
        InputError: a domain that has no counterpart in Optuna.
    """
    _, domains, grids = parse_spec_vars(dict(param_space))
    if grids:
        raise InputError(
            f"param_space[{'/'.join(map(str, grids[0][0]))}]: grid_search leaves nothing to choose; "
            f"{_ACCEPTED}"
        )
    found = {}
    for path, domain in domains:
        name = "/".join(map(str, path))
        if not all(isinstance(key, str) for key in path):
            raise InputError(
                f"param_space[{name}]: a domain inside a list; expected it under a name of its own"
            )
        found[name] = _parameter(name, path, domain)
    return found


def _parameter(name: str, path: tuple[str, ...], domain: Domain) -> Parameter:
    sampler: Any = domain.get_sampler()
    step = None
    if isinstance(sampler, Quantized):
        sampler, step = sampler.sampler, sampler.q
    log = isinstance(sampler, LogUniform)
    if isinstance(domain, Categorical):
        if all(isinstance(value, _PLAIN) for value in domain.categories):
            return Parameter(path, CategoricalDistribution(domain.categories))
        labels = {repr(value): value for value in domain.categories}  # what a database of Optuna can hold
        return Parameter(path, CategoricalDistribution(list(labels)), labels)
    if not isinstance(sampler, LogUniform | Uniform) or not isinstance(domain, Float | Integer):
        raise InputError(
            f"param_space[{name}]: Optuna cannot draw from {type(domain).__name__} {domain.domain_str}; "
            f"{_ACCEPTED}"
        )
    if log and step not in (None, 1):
        raise InputError(
            f"param_space[{name}]: Optuna takes either a logarithmic scale or steps, not both; {_ACCEPTED}"
        )
    if isinstance(domain, Float):
        return Parameter(path, FloatDistribution(domain.lower, domain.upper, log=log, step=step))
    # as Ray has it: inclusive only where quantised
    last = domain.upper if step is not None else domain.upper - 1
    return Parameter(path, IntDistribution(domain.lower, last, log=log, step=step or 1))
