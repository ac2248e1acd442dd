"""The configuration of a run: the signatures of the classes are the schema, jsonargparse reads it, every
mistake is one line.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from torch import nn

from evaluators.base import Evaluator
from evaluators.data.base import Data
from evaluators.training.evaluator import Training
from operators.criteria import Criterion
from search.budget import Budget
from search.coevolution import Coevolution
from search.config.class_paths import ClassPaths
from search.config.mistakes import explain
from search.executors import RayExecutor
from search.finish.finish import Finish
from search.listeners import Listener
from search.strategy import Strategy
from spaces.base import Space
from spaces.errors import InputError

USAGE = """run_search.py CONFIG.yaml [--key.of.the.config VALUE ...] run, or resume
       run_search.py plan CONFIG.yaml [...]                    groups, frozen axes, reach, time; runs nothing
       run_search.py report|export|dashboard runs/NAME [...]   of a run that is there"""

WARM = """folder of another run; the strategy begins with its candidates, and results that mean the
same here are not computed again: of the same model, weights, data and evaluators, in a space with the same
choices, which may have more values"""

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


@dataclass(frozen=True)
class StudySettings:
    """The Optuna view of the run.

    Args:
        view: whether one is written.
        storage: URL of a PostgreSQL or MySQL database; null: the file study.log of the run.
    """

    view: bool = True
    storage: str | None = None


SECTIONS: dict[str, type] = {
    "training": Training,
    "search": SearchSettings,
    "search.budget": Budget,
    "ray": RayExecutor,
    "finish": Finish,
    "study": StudySettings,
}


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="run_search.py",
        usage=USAGE,
        exit_on_error=False,
        description="A search for smaller neural networks.",
    )
    parser.add_argument("--config", action="config", help="the YAML file; given first, without --config")
    parser.add_argument(
        "--name", type=str, help="the run's folder below `runs`; null: the name of the config"
    )
    parser.add_argument("--runs", type=str, default="runs", help="parent folder of all runs")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is random")
    parser.add_argument(
        "--modules",
        type=list[str],
        default=[],
        help="more folders with modules of yours; the config's and the current one are known",
    )
    parser.add_subclass_arguments(
        nn.Module, "model", help="the network; null for spaces that build their own"
    )
    parser.add_argument(
        "--checkpoint",
        type=str | None,
        help="trained weights (safetensors, or a weights_only file); null: the model is trained first",
    )
    parser.add_subclass_arguments(
        Data, "data", help="train, calibration, search and test splits, loss and metrics"
    )
    parser.add_subclass_arguments(Space, "space", skip=set(GIVEN), help="what may vary")
    parser.add_argument(
        "--evaluators",
        type=list[Evaluator] | None,
        help="what is measured; null: evaluators.Cost and evaluators.Quality",
    )
    parser.add_argument(
        "--objectives", type=list[str], default=["error", "macs"], help="METRIC, 'min METRIC' or 'max METRIC'"
    )
    parser.add_argument(
        "--constraints",
        type=list[str],
        default=[],
        help="'METRIC <= NUMBER', >=, with %% for a share of the base model's",
    )
    parser.add_subclass_arguments((Strategy, Coevolution), "strategy", help="how to look")
    parser.add_argument("--warm_start", type=str | None, help=WARM)
    parser.add_argument(
        "--criteria",
        type=list[Criterion] | None,
        help="scores of the base model, the guide; null: magnitude, Taylor, activation",
    )
    parser.add_argument(
        "--listeners",
        type=list[Listener] | None,
        help="told of the run: search.TensorBoard, search.MLflow, search.WandB, or a search.Listener",
    )
    parser.add_argument(
        "--executor", type=Literal["ray", "inline"], default="ray", help="Ray workers, or this process alone"
    )
    for name, section in SECTIONS.items():
        parser.add_class_arguments(
            section, name, default={"evaluations": 1000} if name == "search.budget" else None
        )
    parser.set_defaults(
        {"space": {"class_path": "spaces.ChannelSpace"}, "strategy": {"class_path": "search.Evolution"}}
    )
    return parser


EVALUATORS = '[{"class_path": "evaluators.Cost"}, {"class_path": "evaluators.Quality"}]'
"""What is measured where a config does not say."""


class Settings:
    """A configuration that has been read and found sound; its objects are made one by one, as the engine
    needs them.
    """

    def __init__(self, parser: ArgumentParser, config: Namespace, folders: Sequence[Path]) -> None:
        self._parser, self._config, self._folders = parser, config, tuple(folders)
        self.name: str = config.name
        self.runs: str = config.runs
        self.seed: int = config.seed
        self.objectives: list[str] = config.objectives
        self.constraints: list[str] = config.constraints
        self.executor: str = config.executor
        self.warm_start: str | None = config.warm_start
        self.checkpoint = self._find(config.checkpoint) if config.checkpoint else None
        self.study: StudySettings = self.make("study")
        self.search: SearchSettings = self.make("search")
        self.budget: Budget = self.make("search.budget")

    @classmethod
    def parse(cls, arguments: Sequence[str], homes: Mapping[str, str] | None = None) -> Settings:
        """Read ``[CONFIG.yaml, --key, value, ...]``.

        Args:
            arguments: of the command line.
            homes: public name -> package, of the classes that may be named without one.

        Raises:
            InputError: one line that names the place and what is accepted.
            SystemExit: after ``--help`` and ``--print_config``, which print.
        """
        words = list(arguments)
        source = Path(words.pop(0)) if words and not words[0].startswith("-") else None
        folders = [Path.cwd()]
        if source is not None:
            folders = [
                source.absolute().parent,
                *(source.absolute().parent / folder for folder in _modules(source)),
                *folders,
            ]
        sys.path.extend(str(folder) for folder in folders if str(folder) not in sys.path)
        parser = _parser()
        names = ClassPaths(homes or {})
        words = [*([f"--config={names.config(source)}"] if source else []), *names.words(words)]
        try:
            config = parser.parse_args(words)
            # no default of the parser's: it would lend its settings to a class of the user's in its place
            if config.evaluators is None:
                config = parser.parse_args([*words, f"--evaluators={EVALUATORS}"])
        except ArgumentError as error:
            raise InputError(explain(str(error), _keys(parser), GIVEN)) from error
        if source is None:
            raise InputError(
                "config: missing; expected a YAML file first, as in run_search.py "
                "configs/digits_channels.yaml"
            )
        config.name = config.name or source.stem
        _check(config)
        return cls(parser, config, list(dict.fromkeys(folders)))

    @property
    def directory(self) -> Path:
        """The folder of the run."""
        return Path(self.runs) / self.name

    def has(self, key: str) -> bool:
        """Whether the config names a class under `key`."""
        return self._config.get(key) is not None

    def spec(self, key: str) -> dict[str, Any] | None:
        """Return ``class_path`` and ``init_args`` of what stands under `key`, None where nothing does."""
        chosen = self._config.get(key)
        return None if chosen is None else json.loads(json.dumps(chosen.as_dict(), default=str))

    def accepts(self, key: str, argument: str) -> bool:
        """Whether the constructor of the class under `key` has that argument."""
        module, _, name = self._config[key].class_path.rpartition(".")
        return argument in inspect.signature(getattr(importlib.import_module(module), name)).parameters

    def make(self, key: str, **given: Any) -> Any:
        """Instantiate what stands under `key` (a class, a list of classes, a section); `given` are arguments
        that the config leaves out.

        Raises:
            InputError: where the constructor refuses, with its own words.
        """
        refusals: list[InputError] = []  # jsonargparse buries them in words of its own

        def construct(made: Callable[..., Any], *positional: Any, **named: Any) -> Any:
            taken = inspect.signature(made).parameters
            try:
                return made(
                    *positional, **named, **{name: value for name, value in given.items() if name in taken}
                )
            except Exception as error:
                refusals.append(_refusal(key, made, error, {name.rstrip("s") for name in vars(self._config)}))
                raise refusals[0] from error

        config = Namespace()
        config[key] = self._config[key]
        try:
            made = self._parser.instantiate(
                config, instantiate_groups=False, instantiators=[(construct, object, True)]
            )
            return construct(SECTIONS[key], **_section(made, key)) if key in SECTIONS else made[key]
        except Exception as error:
            raise (refusals[0] if refusals else InputError(explain(str(error), [], GIVEN))) from error

    def dump(self) -> str:
        """Return the whole configuration as YAML that runs again from any folder."""
        config = self._config.clone()
        config.runs = str(Path(self.runs).absolute())
        config.modules = [str(folder) for folder in self._folders]
        config.checkpoint = str(self.checkpoint) if self.checkpoint else None
        return self._parser.dump(config, skip_validation=True, skip_unset=False)

    def _find(self, checkpoint: str) -> Path:
        """A checkpoint lies relative to the current folder, or to the config."""
        places = [Path.cwd() / checkpoint, *(folder / checkpoint for folder in self._folders)]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise InputError(
                f"checkpoint: {checkpoint!r} is no file; expected one in the current folder or beside the "
                f"config"
            )
        return found


def _refusal(key: str, made: Callable[..., Any], error: Exception, places: Collection[str]) -> InputError:
    """What a constructor said, with the place where it stands in the config."""
    message, last = " ".join(str(error).split()), key.split(".")[-1]
    if not isinstance(error, InputError):
        return InputError(f"{key} ({made.__module__}.{made.__qualname__}): {type(error).__name__}: {message}")
    if message.startswith(last):
        return InputError(f"{key.removesuffix(last)}{message}")
    # it tells its place itself: "model Net: ...", "evaluator Quality: ..."
    named = re.split(r"\W", message)[0] in places
    return InputError(message if named else f"{key}: {message}")


def _section(config: Namespace, key: str) -> dict[str, Any]:
    """The values of a section, without those of the sections below it."""
    below = {name[len(key) + 1 :] for name in SECTIONS if name.startswith(f"{key}.")}
    return {name: value for name, value in vars(config[key]).items() if name not in below}


def _keys(parser: ArgumentParser) -> list[str]:
    """The dotted names of what a config may say."""
    return [
        action.dest
        for action in parser._actions
        if action.dest != "config" and not action.dest.startswith(("help", "print_"))
    ]


def _modules(source: Path) -> list[str]:
    """The folders that a config adds to where modules are looked for: needed before anything in it can be
    imported.
    """
    try:
        found = yaml.safe_load(source.read_text())
    except OSError as error:
        raise InputError(
            f"config: cannot read {source}: {error.strerror}; expected a YAML file, as "
            f"configs/digits_channels.yaml"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"config: {source} is not YAML: {' '.join(str(error).split())}") from None
    folders = found.get("modules") if isinstance(found, Mapping) else None
    return [folder for folder in folders if isinstance(folder, str)] if isinstance(folders, list) else []


def _check(config: Namespace) -> None:
    """See to what types alone do not tell.

    Raises:
        InputError: of the first value that does not fit.
    """
    for section, kind in SECTIONS.items():
        if not isinstance(config[section], Namespace):
            raise InputError(
                f"{section}: expected keys and values of {', '.join(inspect.signature(kind).parameters)}, "
                f"got {config[section]!r}"
            )
    if not re.fullmatch(r"[\w][\w.-]*", config.name):
        raise InputError(
            f"name: {config.name!r} is no name of a folder; expected letters, digits, '-', '_' and '.'"
        )
    if config.seed is None or config.seed < 0:
        raise InputError(f"seed: expected a whole number of at least 0, got {config.seed}")
    for key in ("evaluators", "objectives"):
        if not config[key]:
            raise InputError(f"{key}: expected at least one")
    if config.strategy is None:
        raise InputError(
            "strategy: expected class_path (and init_args) of a search.Strategy, or search.Coevolution"
        )
    if config.space is None:
        raise InputError("space: expected class_path (and init_args) of a spaces.Space")
