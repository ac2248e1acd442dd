"""The configuration of a run: the signatures of the classes are the schema, jsonargparse reads it, every
mistake is one line.
"""

from __future__ import annotations

import inspect
import io
import json
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from search.budget import Budget
from search.config.class_paths import ClassPaths
from search.config.mistakes import BESIDE, explain
from search.config.schema import GIVEN, SECTIONS, SearchSettings, make_parser
from search.config.stored import StoredConfig, as_data
from search.config.study import EXPOSED, StudySettings, find, readable_by_others
from search.setup.shards import INDEX, WHOLE
from spaces.allowed import imported
from spaces.errors import InputError
from spaces.redaction import left_out, redacted_yaml, remember_all, remember_words

EVALUATORS = '[{"class_path": "evaluators.Cost"}, {"class_path": "evaluators.Quality"}]'
"""What is measured where a config does not say."""


class Settings:
    """A configuration that has been read and found sound; its objects are made one by one, as the engine
    needs them.
    """

    def __init__(
        self,
        parser: ArgumentParser,
        config: Namespace,
        folders: Sequence[Path],
        stored: StoredConfig | None = None,
    ) -> None:
        self._parser, self._config, self._folders = parser, config, tuple(folders)
        self._stored = stored
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
    def parse(
        cls,
        arguments: Sequence[str],
        homes: Mapping[str, str] | None = None,
        allow: Sequence[str] | None = None,
    ) -> Settings:
        """Read ``[CONFIG.yaml, --key, value, ...]``.

        Args:
            arguments: of the command line.
            homes: public name -> package, of the classes that may be named without one.
            allow: None: the configuration is the user's own and may name anything. Else it was found in the
                folder of a run, and may name our public classes, layers of torch, and these dotted names or
                what begins with them.

        Raises:
            InputError: one line that names the place and what is accepted.
            SystemExit: after ``--help`` and ``--print_config``, which print.
        """
        if allow is None:
            return cls._parse(arguments, homes or {}, None)
        stored = StoredConfig(Path(arguments[0]), arguments[1:], homes or {}, allow)
        stored.check()
        with stored.reading():
            return cls._parse(arguments, homes or {}, stored)

    @classmethod
    def _parse(
        cls, arguments: Sequence[str], homes: Mapping[str, str], stored: StoredConfig | None
    ) -> Settings:
        source, words = _divided(arguments)
        folders = [Path.cwd()]
        if source is not None:
            folders = [
                source.absolute().parent,
                *(source.absolute().parent / folder for folder in _modules(source)),
                *folders,
            ]
        if stored is not None:
            folders = stored.folders
        sys.path.extend(str(folder) for folder in folders if str(folder) not in sys.path)
        remember_words(words)
        parser = make_parser()
        names = ClassPaths(homes)
        words = [*([f"--config={names.config(source)}"] if source else []), *names.words(words)]
        try:
            with _printed_without_secrets():
                config = parser.parse_args(words)
            # no default of the parser's: it would lend its settings to a class of the user's in its place
            if config.evaluators is None:
                config = parser.parse_args([*words, f"--evaluators={EVALUATORS}"])
        except ArgumentError as error:
            line = explain(str(error), _keys(parser), GIVEN)
            if stored is not None:
                line = stored.explain(str(error)) or line.replace(BESIDE, "or on PYTHONPATH")
            raise InputError(line) from None
        if source is None:
            raise InputError(
                "config: missing; expected a YAML file, as in run_search.py configs/quickstart.yaml"
            )
        config.name = config.name or source.stem
        _check(config)
        if stored is not None:
            stored.check_cluster(config)
        return cls(parser, config, list(dict.fromkeys(folders)), stored)

    @property
    def directory(self) -> Path:
        """The folder of the run."""
        return Path(self.runs) / self.name

    @property
    def opening(self) -> str:
        """What a run is about to do, in plain words."""
        of = self.spec("model") or self.spec("space") or {}
        kind, evaluations = str(of.get("class_path")).rpartition(".")[2], self.budget.evaluations
        limits = f", with {', '.join(self.constraints)}" if self.constraints else ""
        many = "candidates" if evaluations is None else f"{evaluations:,} candidates"
        return (
            f"{self.name}: {many} of {kind} are tried for the best {' and '.join(self.objectives)}{limits}; "
            f"everything is kept in {self.directory}"
        )

    @property
    def storage(self) -> str | None:
        """URL of the database that the Optuna view is written to, None where it is the run's own file.

        Raises:
            InputError: it is not to be had: see :meth:`search.config.study.StudySettings.url`.
        """
        return self.study.url(self._folders)

    def warnings(self, words: Sequence[str]) -> list[str]:
        """Return a line for every way in which secrets were given that others can read.

        Args:
            words: of the command line.
        """
        lines = [EXPOSED] if remember_words(words) else []
        file = self.study.storage_file and find(self.study.storage_file, self._folders)
        if file and readable_by_others(file):
            lines.append(f"warning: study.storage_file: others can read {file}; chmod 600 it")
        return lines

    def has(self, key: str) -> bool:
        """Whether the config names a class under `key`."""
        return self._config.get(key) is not None

    def spec(self, key: str) -> dict[str, Any] | None:
        """Return ``class_path`` and ``init_args`` of what stands under `key`, None where nothing does."""
        chosen = self._config.get(key)
        if chosen is None:
            return None
        self._whole(key)
        return json.loads(json.dumps(chosen.as_dict(), default=str))

    def _whole(self, key: str) -> None:
        """See that nothing under `key` stands for a secret that was left out."""
        value = self._config[key]
        place = None if key == "study" else left_out(_plain(value), key)
        if place is not None:
            raise InputError(
                f"{place}: its secret was left out when this configuration was written; give it once more, "
                f"or the configuration that the run began with"
            )

    def accepts(self, key: str, argument: str) -> bool:
        """Whether the constructor of the class under `key` has that argument."""
        return argument in inspect.signature(imported(self._config[key].class_path, key)).parameters

    def make(self, key: str, **given: Any) -> Any:
        """Instantiate what stands under `key` (a class, a list of classes, a section); `given` are arguments
        that the config leaves out.

        Raises:
            InputError: where the constructor refuses, with its own words.
        """
        self._whole(key)
        refusals: list[InputError] = []  # jsonargparse buries them in words of its own

        def construct(made: Callable[..., Any], *positional: Any, **named: Any) -> Any:
            taken = inspect.signature(made).parameters
            if self._stored is not None:
                named = {name: as_data(value) for name, value in named.items()}
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
            with nullcontext() if self._stored is None else self._stored.reading():
                made = self._parser.instantiate(
                    config, instantiate_groups=False, instantiators=[(construct, object, True)]
                )
                return construct(SECTIONS[key], **_section(made, key)) if key in SECTIONS else made[key]
        except Exception as error:
            raise (refusals[0] if refusals else InputError(explain(str(error), [], GIVEN))) from error

    def dump(self) -> str:
        """Return the whole configuration as YAML that runs again from any folder; secrets are left out."""
        config = self._config.clone()
        config.runs = str(Path(self.runs).absolute())
        if self._stored is None:
            config.modules = [str(folder) for folder in self._folders]
        config.checkpoint = str(self.checkpoint) if self.checkpoint else None
        if self.study.storage_file and (file := find(self.study.storage_file, self._folders)):
            config.study.storage_file = str(file.absolute())
        return redacted_yaml(self._parser.dump(config, skip_validation=True, skip_unset=False))

    def _find(self, checkpoint: str) -> Path:
        """A checkpoint lies relative to the current folder, or to the config; of a folder it is what is read
        first.
        """
        places = (checkpoint, str(Path(checkpoint, INDEX)), str(Path(checkpoint, WHOLE)))
        found = next((file for place in places if (file := find(place, self._folders))), None)
        if found is None:
            raise InputError(
                f"checkpoint: {checkpoint!r} is no file, nor a folder with {INDEX}; expected one in the "
                f"current folder or beside the config"
            )
        return found


def _divided(words: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Return the configuration, which is the first word that is neither an option nor the value of one, and
    all other words.
    """
    before = ""
    for place, word in enumerate(words):
        follows_option = before.startswith("--") and "=" not in before and before != "--print_config"
        if not word.startswith("-") and not follows_option:
            return Path(word), [*words[:place], *words[place + 1 :]]
        before = word
    return None, list(words)


def _plain(value: Any) -> Any:
    """Namespaces as mappings, all the way down."""
    if isinstance(value, Namespace):
        value = value.as_dict()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


@contextmanager
def _printed_without_secrets() -> Iterator[None]:
    """Let ``--print_config`` and ``--help`` print what they have to, without secrets."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        if text := printed.getvalue():
            print(redacted_yaml(text), end="")


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
            f"configs/quickstart.yaml"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"config: {source} is not YAML: {' '.join(str(error).split())}") from None
    remember_all(found)
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
