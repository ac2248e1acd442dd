"""What a configuration is made of: the signatures of the classes are the schema, jsonargparse reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from jsonargparse import ArgumentParser
from torch import nn

from evaluators.base import Evaluator
from evaluators.data.base import Data
from evaluators.training.evaluator import Training
from operators.criteria import Criterion
from search.budget import Budget
from search.coevolution import Coevolution
from search.config.keys import KEYS
from search.config.study import StudySettings
from search.executors import RayExecutor
from search.finish.finish import Finish
from search.listeners import Listener
from search.strategy import Strategy
from spaces.base import Space
from spaces.errors import InputError

GIVEN = ("model", "example")
"""Arguments of a space that the engine gives, so that a config need not (and cannot)."""


@dataclass(frozen=True)
class SearchSettings:
    """How candidates are asked and told.

    Args:
        order: strict: told in the order asked, so that the front does not depend on the workers; arrival:
            told as they come.
        lag: number of candidates that may be asked and not yet told; about four times the workers.
        chunk: number of candidates asked at once.
        seeds: from how many seeds each candidate is trained; with 2 and more, evaluators that train are
            evaluators.Repeated, and metrics are means.
    """

    order: Literal["strict", "arrival"] = "strict"
    lag: int = 32
    chunk: int = 8
    seeds: int = 1

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise InputError(f"search.seeds {self.seeds}: expected at least 1")


SECTIONS: dict[str, type] = {
    "training": Training,
    "search": SearchSettings,
    "search.budget": Budget,
    "ray": RayExecutor,
    "finish": Finish,
    "study": StudySettings,
}
"""Keys whose values are the arguments of one class."""

KINDS: dict[str, tuple[type, ...]] = {
    "model": (nn.Module,),
    "data": (Data,),
    "space": (Space,),
    "strategy": (Strategy, Coevolution),
    "evaluators": (Evaluator,),
    "criteria": (Criterion,),
    "listeners": (Listener,),
}
"""Keys under which classes are named, and what these inherit."""

_CHOSEN = {"space": {"class_path": "spaces.ChannelSpace"}, "strategy": {"class_path": "search.Evolution"}}
_LISTS: dict[str, Any] = {
    "evaluators": list[Evaluator] | None,
    "criteria": list[Criterion] | None,
    "listeners": list[Listener] | None,
}
_PLAIN: dict[str, tuple[Any, Any]] = {
    "name": (str, None),
    "runs": (str, "runs"),
    "seed": (int, 0),
    "modules": (list[str], []),
    "checkpoint": (str | None, None),
    "objectives": (list[str], ["error", "macs"]),
    "constraints": (list[str], []),
    "warm_start": (str | None, None),
    "executor": (Literal["ray", "inline"], "ray"),
}
_ORDER = (
    *("name", "runs", "seed", "modules", "model", "checkpoint", "data", "space", "evaluators", "objectives"),
    *("constraints", "strategy", "warm_start", "criteria", "listeners", "executor", *SECTIONS),
)
"""In which a configuration is written."""


def make_parser() -> ArgumentParser:
    """Return the parser of configurations and command lines."""
    parser = ArgumentParser(
        prog="secateur", exit_on_error=False, description="A search for smaller neural networks."
    )
    parser.add_argument("--config", action="config", help="the YAML file; given without --config")
    for key in _ORDER:
        add(parser, key)
    parser.set_defaults(_CHOSEN)
    return parser


def add(parser: ArgumentParser, key: str) -> None:
    """Let a parser know a key."""
    text = KEYS[key].replace("%", "%%")
    if key in SECTIONS:
        defaults = {"evaluations": 1000} if key == "search.budget" else None
        parser.add_class_arguments(SECTIONS[key], key, default=defaults)
    elif key in _LISTS:
        parser.add_argument(f"--{key}", type=_LISTS[key], help=text)
    elif key in KINDS:
        kinds = KINDS[key]
        kind = kinds if len(kinds) > 1 else kinds[0]
        parser.add_subclass_arguments(kind, key, skip=set(GIVEN) if key == "space" else None, help=text)
    else:
        kind, default = _PLAIN[key]
        parser.add_argument(f"--{key}", type=kind, default=default, help=text)
