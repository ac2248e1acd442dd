"""What ``--help`` says. Nothing is imported for it but the words themselves."""

from __future__ import annotations

import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

from search.config.keys import GROUPS

_WIDTH, _COLUMN = 96, 24


@dataclass(frozen=True)
class Command:
    """What a person reads of a command.

    Attributes:
        usage: what follows its name.
        summary: one line.
        more: on its options and what comes of it.
    """

    usage: str
    summary: str
    more: str = ""


_OVERRIDES = """Every key of the configuration is an option, too: --search.budget.evaluations 4000, --strategy
RandomSearch, --seed 1. A setting of a class follows its key: --strategy.population 24.
--print_config prints the whole configuration, with what was not said, and ends; --help KEY and
--help CLASS show what there is."""

COMMANDS: dict[str, Command] = {
    "init": Command(
        "MODEL DATA [--checkpoint FILE] [--name NAME] [--output FILE]",
        "write a commented configuration for a model and data of yours",
        """MODEL and DATA are module.Class (or a function) that can be imported here: a torch.nn.Module, and
an evaluators.Data, a DataLoader or a dataset. Public classes of ours go by their names: Digits. Both
are made once, to see that they fit, so that the configuration runs as it is written. Without a
checkpoint the model is trained first. An existing file is left as it is.""",
    ),
    "plan": Command(
        "CONFIG.yaml [--KEY VALUE ...]",
        "what can be made smaller, how far, and how long it takes; runs nothing",
        _OVERRIDES,
    ),
    "run": Command(
        "CONFIG.yaml [--KEY VALUE ...]",
        "search, or go on where it was left; the word run may be left out",
        f"""{_OVERRIDES}

The run lies in runs/NAME; the same line again goes on from there. Exit code: 0 done, 1 stopped by
failures or a full disk, 2 a mistake in what was given, 130 interrupted.""",
    ),
    "report": Command(
        "runs/NAME",
        "write report.html and front.csv of a run again",
        "The run may be going on. Nothing is computed anew.",
    ),
    "export": Command(
        "runs/NAME [--finish.members N] [--allow NAME ...] [--KEY VALUE ...]",
        "fine-tune and export members of the front as it is",
        """--finish.members says how many, --help finish what else can be set. The configuration in the folder
is data, which may have come from anywhere: what it names beyond our classes and torch's layers is
imported only where --allow my_file.Net (or a prefix: --allow my_file) says so.""",
    ),
    "dashboard": Command(
        "runs/NAME [--port 8080] [--host 127.0.0.1] [--study.storage_env NAME]",
        "show the candidates of a run in optuna-dashboard",
        """Options that begin with --study. say where the view is, as in a run; all others are handed on to
optuna-dashboard. It needs the extra `dashboard`: pip install 'secateur[dashboard]'.""",
    ),
    "calibrate": Command(
        "CONFIG.yaml [--output latency.json]",
        "measure on this machine what latency is predicted from, for a search elsewhere",
        """For evaluators with LatencyModel: some networks of the space are built and measured, and their
operations at a grid of widths. A search takes the file as the setting `calibration` of LatencyModel, on
whatever machine it runs; without one it calibrates by itself and keeps that in a cache.""",
    ),
    "doctor": Command(
        "[--runs FOLDER]",
        "what is missing on this machine, and how to get it",
        """Looks at Python and the packages, the GPU, Ray, disk and memory, ONNX Runtime and the extras. Exit
code: 0 where a search can run, else 1.""",
    ),
}


def program() -> str:
    """Return what this process was called as, for lines that a person copies."""
    return "python run_search.py" if Path(sys.argv[0]).name == "run_search.py" else "secateur"


def overview() -> str:
    """Return help on everything, in groups."""
    name = program()
    lines = [
        "Secateur makes trained networks smaller: you get a front of models that run without it.",
        "",
        f"usage: {name} CONFIG.yaml [--KEY VALUE ...]",
        f"       {name} COMMAND ...        {name} COMMAND --help says more",
        "",
        "commands",
        *(_row(f"{command} {_words(told.usage)}", told.summary) for command, told in COMMANDS.items()),
        "",
        "the configuration: every KEY is an option, too, as --search.budget.evaluations 4000",
    ]
    for title, keys in GROUPS.items():
        lines += [title, *(_row(key, text) for key, text in keys.items())]
    return "\n".join(
        [
            *lines,
            "more",
            _row("--help KEY", "what can stand there: --help strategy, --help search.budget"),
            _row("--help CLASS", "what a class takes: --help Evolution"),
            _row("--print_config", "print the whole configuration, with what was not said, and end"),
        ]
    )


def of_command(command: str) -> str:
    """Return help on one command."""
    told = COMMANDS[command]
    paragraphs = [textwrap.fill(" ".join(text.split()), _WIDTH) for text in told.more.split("\n\n")]
    summary = f"{told.summary[0].upper()}{told.summary[1:]}."
    return "\n\n".join([f"usage: {program()} {command} {told.usage}", summary, *paragraphs])


def _words(usage: str) -> str:
    """Return the words of a usage that must be given."""
    return usage.partition("[")[0].strip()


def _row(name: str, text: str) -> str:
    lines = textwrap.wrap(text, _WIDTH - _COLUMN) or [""]
    return "\n".join(
        f"  {name if not place else '':{_COLUMN - 3}} {line}".rstrip() for place, line in enumerate(lines)
    )
