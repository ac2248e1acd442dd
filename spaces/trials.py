"""Hyper-parameter search as a space: its candidates are trials of Optuna."""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import BaseTrial
from torch import nn

from spaces.allowed import imported
from spaces.base import Segment, Space
from spaces.errors import InputError
from spaces.names import with_former
from spaces.parameters import (
    INACTIVE,
    SIZE,
    Declared,
    Value,
    declared,
    draw,
    from_bytes,
    is_valid,
    nearest,
    repaired,
    to_bytes,
)
from spaces.suggesting import TRIALS, Asking, Discovery, ask, path_of

MODEL = "model."
"""How the names of parameters begin that the model's constructor takes; all others are settings of the
evaluator.
"""

_MODEL = "space: model"


class TrialSpace(Space):
    """Trials of Optuna as genomes: eight loci a parameter, the bytes of its value as a float64 (of a
    categorical: the position).

    Names say what takes the value: ``model.width`` goes to the model's constructor, all else
    (``training.learning_rate``) to the evaluator. A conditional parameter that is not asked for holds NaN.

    >>> space = TrialSpace({"training.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    ...     "depth": {"low": 1, "high": 4}})
    >>> space.values(space.encode({"training.learning_rate": 0.01, "depth": 3}))
    {'training.learning_rate': 0.01, 'depth': 3}

    Args:
        parameters: by name ``{low, high, log, step}`` (whole numbers make it an integer) or
            ``{choices: [...]}``, or a distribution of Optuna; ``when: {other: value}`` or
            ``{other: [values]}`` asks for it only with those values of another one.
        suggest: instead of `parameters` a function ``suggest(trial)`` that calls ``trial.suggest_*``, or its
            dotted path. Its parameters are found by running it on some hundred trials of a fixed seed, so it
            must depend on nothing but the trial's values.
        model: ``{class_path, init_args}``, a dotted path, or a class or function that returns a module; None:
            the evaluator needs none.

    Raises:
        InputError: a declaration that is not understood, neither or both of `parameters` and `suggest`, a
            model that cannot be imported or does not take a parameter; later: a parameter of `suggest` that
            had not been seen, by its name.
    """

    dotted_arguments = ("suggest", "model")
    """Arguments that may be dotted names."""

    def __init__(
        self,
        parameters: Mapping[str, Any] | None = None,
        suggest: str | Callable[..., Any] | None = None,
        model: Mapping[str, Any] | str | Callable[..., nn.Module] | None = None,
    ) -> None:
        if bool(parameters) == (suggest is not None):
            raise InputError(
                "space: expected either parameters (at least one) or suggest, a function that asks a trial "
                "for them"
            )
        self.distributions: dict[str, BaseDistribution]
        """What every parameter may be, by name and in the genome's order."""
        if suggest is None:
            self._suggest: Callable[..., Any] = declared(parameters or {})
            self.distributions = dict(self._suggest.distributions)
        else:
            self._suggest = imported(suggest, "space: suggest", None) if isinstance(suggest, str) else suggest
            self.distributions = Discovery(self._suggest).distributions
        self._model, self._arguments = _builder(model)
        self.segments = tuple(Segment(name, SIZE, 256) for name in self.distributions)
        self._check_names()

    @property
    def fingerprint(self) -> str:
        """Of names, distributions, declared conditions and the model; the code of a `suggest` function is not
        part of it.
        """
        return self._fingerprint_with(
            {name: distribution_to_json(distribution) for name, distribution in self.distributions.items()}
        )

    @property
    def compatibility(self) -> str:
        """Of the names of the parameters, the model with its arguments, and the path of a `suggest` function;
        ranges, choices and conditions may differ.
        """
        suggest = None if isinstance(self._suggest, Declared) else path_of(self._suggest)
        parts = [sorted(self.distributions), suggest, path_of(self._model), self._arguments]
        return _digest(json.dumps(parts, sort_keys=True, default=path_of))

    def is_meant_with(self, fingerprint: str, distributions: Mapping[str, str]) -> bool:
        """Whether a fingerprint, perhaps in format 1, would be this space's if its parameters had these
        distributions (JSON, by name): nothing else differs then.
        """
        return fingerprint in with_former(lambda: self._fingerprint_with(distributions))

    def _fingerprint_with(self, distributions: Mapping[str, str]) -> str:
        conditions = self._suggest.conditions if isinstance(self._suggest, Declared) else None
        parts = [
            [[name, text] for name, text in distributions.items()],
            conditions,
            path_of(self._model),
            self._arguments,
        ]
        return _digest(json.dumps(parts, sort_keys=True, default=path_of))

    def report(self) -> dict[str, Any]:
        """Return what a genome does not hold: the ``model`` with its ``init_args``, the ``when`` of
        conditional parameters, and the path of a ``suggest`` function.
        """
        made = self._suggest
        conditions = {} if not isinstance(made, Declared) else made.conditions
        found = {
            "model": None if self._model is None else path_of(self._model),
            "init_args": json.loads(json.dumps(self._arguments, default=path_of)),
            "when": {
                name: {parent: list(values) for parent, values in parents.items()}
                for name, parents in conditions.items()
            },
            "suggest": None if isinstance(made, Declared) else path_of(made),
        }
        return {"trials": found}

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self._stack(
            [self._join(self._run(lambda _, distribution: draw(distribution, rng))) for _ in range(n)]
        )

    def repair(self, genomes: np.ndarray) -> np.ndarray:
        self.check(genomes)
        return self._stack([self._repair(genome) for genome in genomes])

    def build(self, genome: np.ndarray) -> nn.Module:
        values = self.values(genome)
        if self._model is None:
            return nn.Identity()
        own = {name.removeprefix(MODEL): value for name, value in values.items() if name.startswith(MODEL)}
        made = self._model(**{**copy.deepcopy(self._arguments), **own})
        if not isinstance(made, nn.Module):
            raise InputError(
                f"space: model {path_of(self._model)} returned a {type(made).__name__}; expected a "
                f"torch.nn.Module"
            )
        return made

    def describe(self, genome: np.ndarray) -> dict[str, float | int | str]:
        """Return every parameter's value; ``-`` where it is not asked for, ``null`` for None."""
        values = self.values(genome)
        return {name: "-" if name not in values else _readable(values[name]) for name in self.distributions}

    def values(self, genome: np.ndarray) -> dict[str, Value]:
        """Return the values of the parameters that a genome ``(length,)`` asks for; ValueError where one is
        out of its range.
        """
        self.check(genome[None])
        values: dict[str, Value] = {}
        for (name, distribution), raw in zip(self.distributions.items(), self._split(genome), strict=True):
            if raw == INACTIVE:
                continue
            if not is_valid(distribution, raw):
                raise ValueError(
                    f"genome holds {from_bytes(raw)} for {name}, which is {distribution}; repair makes it "
                    f"valid"
                )
            values[name] = distribution.to_external_repr(from_bytes(raw))
        return values

    @property
    def trained(self) -> bool:
        """Whether what is built was trained before: a trial trains a new model."""
        return False

    def genes(self, genome: np.ndarray) -> dict[str, Any]:
        return {name: value for name, value in self.values(genome).items() if not name.startswith(MODEL)}

    def gene_values(self) -> dict[str, tuple[Any, ...]]:
        return {name: () for name in self.distributions if not name.startswith(MODEL)}

    def encode(self, params: Mapping[str, Value]) -> np.ndarray:
        """Return the genome ``(length,)`` of a trial's parameters, exactly those that are asked for; steps
        are met within rounding.

        Raises:
            InputError: a value is missing, out of its range, or of a parameter that is not asked for.
        """

        def given(name: str, distribution: BaseDistribution) -> float:
            if name not in params:
                raise InputError(f"space: {name} is missing; expected a value of {distribution}")
            return _internal(name, distribution, params[name])

        return self._encode(params, given)

    def completed(self, params: Mapping[str, Value], rng: np.random.Generator) -> np.ndarray:
        """Return the genome ``(length,)`` of parameters of which some may be missing: these are drawn at
        random where they are asked for.

        Raises:
            InputError: a value is out of its range, or of a parameter that is unknown or not asked for.
        """
        for name in params:
            if name not in self.distributions:
                known = ", ".join(self.distributions)
                raise InputError(f"space: no parameter {name!r}; expected one of {known}")

        def given(name: str, distribution: BaseDistribution) -> float:
            if name not in params:
                return draw(distribution, rng)
            return _internal(name, distribution, params[name])

        return self._encode(params, given)

    def _encode(
        self, params: Mapping[str, Value], given: Callable[[str, BaseDistribution], float]
    ) -> np.ndarray:
        asked = self._run(given)
        for name in params:
            if name not in asked:
                raise InputError(
                    f"space: {name} is not asked for with these values; expected {', '.join(asked)} alone"
                )
        return np.frombuffer(self._join(asked), dtype=np.uint8).copy()

    def draw(self, trial: BaseTrial) -> dict[str, Value]:
        """Ask a trial of Optuna for its parameters, define-by-run; return them as :meth:`encode` takes them.

        Raises:
            InputError: a parameter that had not been seen, or that was something else.
        """
        ask(self._suggest, trial)
        for name, distribution in trial.distributions.items():
            self._check_known(name, distribution)
        return dict(trial.params)

    # -- how it is done --------------------------------------------------------------------------------------

    def _run(self, choose: Callable[[str, BaseDistribution], float]) -> dict[str, float]:
        """Ask for the parameters in their order, each chosen with what came before; return the internal
        values of those asked for.
        """

        def known(name: str, distribution: BaseDistribution) -> float:
            self._check_known(name, distribution)
            return choose(name, distribution)

        trial = Asking(known)
        ask(self._suggest, trial)
        return trial.chosen

    def _repair(self, genome: np.ndarray) -> bytes:
        held = dict(zip(self.distributions, self._split(genome), strict=True))
        raw: dict[str, bytes] = {}

        def nearby(name: str, distribution: BaseDistribution) -> float:
            raw[name] = repaired(distribution, held[name])
            return from_bytes(raw[name])

        self._run(nearby)
        return b"".join(raw.get(name, INACTIVE) for name in self.distributions)

    def _join(self, chosen: Mapping[str, float]) -> bytes:
        return b"".join(to_bytes(chosen[name]) if name in chosen else INACTIVE for name in self.distributions)

    def _split(self, genome: np.ndarray) -> list[bytes]:
        raw = np.ascontiguousarray(genome).tobytes()
        return [raw[start : start + SIZE] for start in range(0, len(raw), SIZE)]

    def _stack(self, genomes: list[bytes]) -> np.ndarray:
        return np.frombuffer(b"".join(genomes), dtype=np.uint8).reshape(len(genomes), self.length).copy()

    def _check_known(self, name: str, distribution: BaseDistribution) -> None:
        known = self.distributions.get(name)
        if known is None:
            raise InputError(
                f"space: parameter {name!r} of suggest was never asked for in {TRIALS} random trials, nor "
                f"with one value at its end; "
                f"expected only {', '.join(self.distributions)}"
            )
        if known != distribution:
            raise InputError(
                f"space: parameter {name!r} is {distribution} now and was {known} before; expected one for "
                f"all trials"
            )

    def _check_names(self) -> None:
        for name in self.distributions:
            if not name.startswith(MODEL):
                continue
            argument = name.removeprefix(MODEL)
            if self._model is None:
                raise InputError(
                    f"space: parameter {name!r} without a model to take it; expected space.model with a "
                    f"class_path"
                )
            if (signature := _signature(self._model)) is None:
                continue
            try:
                signature.bind_partial(**{**self._arguments, argument: None})
            except TypeError:
                accepted = ", ".join(signature.parameters)
                raise InputError(
                    f"space: {path_of(self._model)} takes no {argument!r}; expected model.<one of {accepted}>"
                ) from None


def _internal(name: str, distribution: BaseDistribution, given: Value) -> float:
    """Return a value in Optuna's internal representation, steps met within rounding.

    Raises:
        InputError: it is none of the distribution's.
    """
    try:
        value = distribution.to_internal_repr(given)
        ok = distribution._contains(value)
    except (ValueError, TypeError):
        ok = False
    if not ok:
        raise InputError(f"space: {name} = {given!r} is not accepted; expected a value of {distribution}")
    return nearest(distribution, value)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _builder(model: Any) -> tuple[Callable[..., nn.Module] | None, dict[str, Any]]:
    """Return what builds a model, and the arguments that are always the same."""
    if isinstance(model, Mapping):
        if not isinstance(model.get("class_path"), str) or not model.keys() <= {"class_path", "init_args"}:
            raise InputError(
                f"space: model {dict(model)!r} is not accepted; expected class_path and init_args"
            )
        return imported(model["class_path"], _MODEL, nn.Module), dict(model.get("init_args") or {})
    if isinstance(model, nn.Module):
        raise InputError(
            f"space: model is a {type(model).__name__} that is built; expected its class, since every trial "
            f"builds its own"
        )
    return (imported(model, _MODEL, nn.Module) if isinstance(model, str) else model), {}


def _signature(made: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(made)
    except ValueError:  # some built-in classes have none
        return None


def _readable(value: Value) -> float | int | str:
    return "null" if value is None else value
