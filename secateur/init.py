"""``secateur init``: writes a commented configuration for a model and data, which runs as it is written."""

from __future__ import annotations

import argparse
import inspect
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from evaluators.cost.evaluator import smallest
from search.config.assembly import assemble
from search.config.settings import Settings
from secateur import HOMES
from spaces.errors import InputError
from spaces.files import replacing

_ERRORS = ("expected_error", "error", "loss")
"""Of what data measure: the first that is there is what the search makes small beside the cost."""
_SHARE = 0.5
_TEXT = """\
# {program} {file}: runs it; the same line again goes on from where it was
# {program} plan {file}: says what can be made smaller and how long it takes, without running
# {program} --help KEY: what else can stand there, as --help strategy

name: {name} # the run lies in runs/{name}
seed: 0

# what is made smaller
model: {model}
checkpoint: {checkpoint} # trained weights; null: the model is trained first, as `training` says
training: {{epochs: 20}} # learning_rate, batch_size, ...: --help training
data: {data}
space: {{class_path: ChannelSpace}} # channels and heads; blocks, too, with init_args: {{depth: [...]}}

# what is wanted
objectives: [{objective}, macs] # data and evaluators give {metrics}
constraints: ["macs <= {limit}%"] # of the whole model's; the smallest that can be reached has {least}%

# how it is searched
strategy: {{class_path: Evolution}} # others: --help strategy
search:
  lag: 32 # candidates under way, about four times the workers
  chunk: 8
  budget: {{evaluations: 500}}

# where it runs, and what comes of it
executor: ray # inline: in one process, without Ray
ray: {{batch: 4, time_limit: 60}} # seconds that a candidate may take; address: of a cluster
finish: {{members: 3}} # so many of the front are fine-tuned and exported
"""


def write_config(words: Sequence[str], program: str) -> Path:
    """Write a configuration.

    Args:
        words: ``MODEL DATA [--checkpoint FILE] [--name NAME] [--output FILE] [--KEY VALUE ...]``.
        program: what is called to run it, for the comments.

    Returns:
        the file.

    Raises:
        InputError: model and data do not make a search, or the file exists.
    """
    given, others = _parser().parse_known_args(words)
    name = given.name or given.model.split(".")[-2 if "." in given.model else -1].lower().replace("_", "-")
    file = Path(given.output or f"{name.replace('-', '_')}.yaml")
    if file.exists():
        raise InputError(f"init: {file} exists; expected another --output FILE, or --name NAME")
    start: dict[str, Any] = {
        "model": {"class_path": given.model},
        "objectives": ["macs"],
        "executor": "inline",
    }
    if given.checkpoint:
        start["checkpoint"] = str(Path(given.checkpoint).absolute())
    settings = _settings(start, given.data, others)
    search = assemble(settings, searches=False)
    preparation = search.preparation
    problem = preparation.check(preparation.make_space(), rehearse=True)
    least = smallest(problem.space, preparation.data)["macs"] / problem.screened_base()["macs"]
    if least > 0.99:
        raise InputError(
            f"init: nothing of {given.model} can be made smaller; {program} plan says why, layer by layer"
        )
    metrics = (*preparation.data.metric_names, "loss") if preparation.data is not None else ()
    text = _TEXT.format(
        program=program,
        file=file,
        name=name,
        model=_flow(settings.spec("model")),
        checkpoint="null" if settings.checkpoint is None else str(settings.checkpoint),
        data=_flow(settings.spec("data")),
        objective=next(error for error in _ERRORS if error in metrics),
        metrics=", ".join(dict.fromkeys((*metrics, "macs", "params"))),
        limit=_limit(least),
        least=f"{100 * least:.2g}",
    )
    with replacing(file) as part:
        part.write_text(text)
    return file


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise InputError(f"init: {message}; expected MODEL DATA, as in init my_model.Net my_data.Data")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="init", add_help=False, allow_abbrev=False)
    parser.add_argument("model")
    parser.add_argument("data")
    for option in ("--checkpoint", "--name", "--output"):
        parser.add_argument(option)
    return parser


def _settings(start: Mapping[str, Any], data: str, others: Sequence[str]) -> Settings:
    """Read what is to be written, with the data as they are, or as what Loaders read."""
    specs = [{"class_path": data}, {"class_path": "evaluators.Loaders", "init_args": {"train": data}}]
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".secateur-") as folder:
        source = Path(folder) / "init.yaml"
        for spec in specs:
            source.write_text(json.dumps({**start, "data": spec}))
            try:
                settings = Settings.parse([str(source), *others], HOMES)
                settings.make("model")
                settings.make("data")
                return settings
            except InputError as error:
                if spec is specs[-1] or "is not a evaluators.data.Data" not in str(error):
                    raise
    raise AssertionError("the last one is read or refused")


def _limit(least: float) -> int:
    """Return a share in percent that leaves room above the smallest that can be reached."""
    return max(round(100 * _SHARE), 5 * math.ceil(20 * (least + (1 - least) / 3)))


def _flow(spec: Mapping[str, Any] | None) -> str:
    """Write a class and the arguments that are not as it has them, in one line."""
    assert spec is not None
    path, arguments = spec["class_path"], spec.get("init_args") or {}
    changed = {name: value for name, value in arguments.items() if value != _default(path, name)}
    whole = {"class_path": path} | ({"init_args": changed} if changed else {})
    return yaml.safe_dump(whole, default_flow_style=True, sort_keys=False, width=10**6).strip()


def _default(path: str, name: str) -> object:
    from spaces.allowed import imported

    default = inspect.signature(imported(path, "init")).parameters[name].default
    return json.loads(json.dumps(default, default=str))
