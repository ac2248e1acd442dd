"""The parameters that a function ``suggest(trial)`` asks for."""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import BaseTrial, FixedTrial

from spaces.errors import InputError
from spaces.names import public_name
from spaces.parameters import draw, nearest

TRIALS = 64
"""Random ones, in which a function is watched."""
_FORCED = 512  # at most so many more, each with one value that has not been seen


class Asking(FixedTrial):
    """A trial whose values are chosen as they are asked for, in Optuna's internal representation."""

    def __init__(self, choose: Callable[[str, BaseDistribution], float]) -> None:
        super().__init__({})
        self._choose = choose
        self.chosen: dict[str, float] = {}

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        if self._distributions.setdefault(name, distribution) != distribution:
            raise InputError(
                f"space: parameter {name!r} is asked for twice, as {self._distributions[name]} and as "
                f"{distribution}"
            )
        if name not in self.chosen:
            self.chosen[name] = self._choose(name, distribution)
            self._suggested_params[name] = distribution.to_external_repr(self.chosen[name])
        return self._suggested_params[name]


class Discovery:
    """Finds the parameters of a function: in random trials, and in one for every choice and every end of a
    range not seen so far. [O]

    The forced value is put into the trial in which its parameter had been met, so that conditions above it
    hold.
    """

    def __init__(self, suggest: Callable[..., Any]) -> None:
        self.distributions: dict[str, BaseDistribution] = {}
        self._suggest, self._rng = suggest, np.random.default_rng(0)
        self._seen: set[tuple[str, float]] = set()
        self._forced: deque[dict[str, float]] = deque()
        for _ in range(TRIALS):
            self._try({})
        for _ in range(_FORCED):
            if not self._forced:
                break
            forced = self._forced.popleft()
            if (next(reversed(forced.items()))) not in self._seen:
                self._try(forced)
        if not self.distributions:
            raise InputError(
                f"space: suggest {path_of(suggest)} asked for nothing; expected a function that calls "
                f"trial.suggest_*"
            )

    def _try(self, forced: Mapping[str, float]) -> None:
        trial = Asking(lambda name, d: forced[name] if name in forced else draw(d, self._rng))
        ask(self._suggest, trial)
        for name, distribution in trial.distributions.items():
            if name not in self.distributions:
                self.distributions[name] = distribution
                above = dict(list(trial.chosen.items())[: list(trial.chosen).index(name)])
                self._forced.extend({**above, name: end} for end in _ends(distribution))
            elif self.distributions[name] != distribution:
                raise InputError(
                    f"space: parameter {name!r} of suggest is {self.distributions[name]} in one trial and "
                    f"{distribution} in another; "
                    "expected one for all trials, or another name"
                )
        self._seen.update(trial.chosen.items())


def ask(suggest: Callable[..., Any], trial: BaseTrial) -> None:
    """Have a function ask a trial for its parameters; what it raises becomes an :class:`InputError`."""
    try:
        suggest(trial)
    except InputError:
        raise
    except Exception as error:
        message = " ".join(str(error).split())
        raise InputError(
            f"space: suggest {path_of(suggest)} raised {type(error).__name__}: {message}; expected a "
            f"function that calls trial.suggest_*"
        ) from error


def _ends(distribution: BaseDistribution) -> list[float]:
    if isinstance(distribution, CategoricalDistribution):
        return [float(position) for position in range(len(distribution.choices))]
    return [nearest(distribution, -math.inf), nearest(distribution, math.inf)]


def path_of(thing: Any) -> str:
    """Return the dotted path of a class or function; of a partial one with its arguments, of an object that
    of its class.
    """
    if isinstance(thing, functools.partial):
        return f"{path_of(thing.func)}{thing.args}{sorted(thing.keywords.items())}"
    return public_name(thing if hasattr(thing, "__qualname__") else type(thing))
