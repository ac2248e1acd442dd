"""The command: read a configuration, run or resume its search; plan, report, export, show the dashboard."""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from secateur import HOMES
from secateur.help import of_command, overview, program
from secateur.outlet import outlets

if TYPE_CHECKING:
    from search.record.directory import RunDirectory
    from search.result import Result

DONE, STOPPED, MISTAKE, INTERRUPTED, UNREAD = 0, 1, 2, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: of the command line; None: those of this process.

    Returns:
        0 done, 1 the search stopped because of failures or a full disk, 2 a mistake in what was given (one
        line on standard error says which), 130 interrupted, 141 done, but whoever read standard output has
        left (``| head``).
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _remarks()
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _unexpected
    with outlets() as output:
        code = _answer(list(sys.argv[1:] if arguments is None else arguments))
        output.flush()
    return UNREAD if code == DONE and output.is_unread else code


def _answer(words: list[str]) -> int:
    named = words.pop(0) if words and words[0] in COMMANDS else None
    asked = _asked(words)
    if asked == "":
        print(of_command(named) if named else overview())
        return DONE
    try:
        with _terminable():
            return _go(_help, [asked]) if asked else _go(COMMANDS[named or "run"], words)
    except KeyboardInterrupt:
        print("interrupted; what was found is kept, the same command goes on from there", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as end:  # of --help and --print_config
        return end.code if isinstance(end.code, int) else DONE


def _remarks() -> None:
    """Show on standard error what is remarked while something takes its time."""
    log = logging.getLogger("secateur")
    if not log.handlers:
        log.addHandler(logging.StreamHandler())
        log.setLevel(logging.INFO)


def _asked(words: Sequence[str]) -> str | None:
    """Return what help is asked on, empty for all, None where none is asked."""
    for place, word in enumerate(words):
        option, _, name = word.partition("=")
        if option in ("--help", "-h"):
            follows = "".join(words[place + 1 : place + 2])
            return name or ("" if follows.startswith("-") else follows)
    return None


def _help(words: list[str]) -> int:
    """Show what may stand under a key, or what a class takes."""
    from search.config.description import description

    print(description(words[0], HOMES))
    return DONE


def _go(command: Callable[[list[str]], int], words: list[str]) -> int:
    """Run a command; what the user can mend becomes one line."""
    # torch and all behind it take seconds: an interrupt meanwhile is one, too
    from search.executors.base import WorkersLostError
    from search.record.ledger import LedgerError
    from spaces.errors import InputError
    from spaces.redaction import redacted_text

    try:
        return command(words)
    except InputError as error:
        if os.environ.get("SECATEUR_TRACEBACK"):
            raise
        print(f"error: {redacted_text(' '.join(str(error).split()))}", file=sys.stderr)
        return MISTAKE
    except WorkersLostError as error:
        print(f"error: {error}", file=sys.stderr)
        return STOPPED
    except OSError as error:
        if not isinstance(error, LedgerError) and error.errno != errno.ENOSPC:
            raise
        print(f"error: disk full: {' '.join(str(error).split())}", file=sys.stderr)
        return STOPPED


def _run(words: list[str]) -> int:
    """Run or resume a search, show what it found."""
    from rich.console import Console

    from search.config.assembly import assemble
    from search.config.settings import Settings
    from search.progress import Progress
    from spaces.redaction import redacted_text

    settings = Settings.parse(words, HOMES)
    progress = Progress()
    with progress.opening(settings.opening):
        search = assemble(settings, progress)
        for line in settings.warnings(words):
            progress.say(line)
        result = search.run(**asdict(settings.budget))
    progress.say(_ending(result))
    if result.ending.faulty:
        advice = f"; {result.ending.advice}" if result.ending.advice else ""
        print(f"error: search: {redacted_text(result.reason + advice)}", file=sys.stderr)
        return STOPPED
    result.show(Console())
    progress.say(_whereabouts(settings.directory))
    return INTERRUPTED if result.ending.kind == "interrupted" else DONE


def _plan(words: list[str]) -> int:
    """Show what a run would be."""
    from rich.console import Console

    from search.config.assembly import assemble
    from search.config.settings import Settings

    settings = Settings.parse(words, HOMES)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(assemble(settings, searches=False).plan(**asdict(settings.budget)))
    return DONE


def _report(words: list[str]) -> int:
    """Write the report of a run again."""
    from search.report import write_report

    directory = _directory(words)
    write_report(directory.path)
    print(directory.report)
    return DONE


def _export(words: list[str]) -> int:
    """Fine-tune and export members of a front as it is: ``export runs/NAME --finish.members 8``.

    The configuration in the folder is data: what it names beyond ours is allowed by ``--allow my_file.Net``.
    """
    from rich.console import Console

    from search.config.assembly import assemble
    from search.config.settings import Settings
    from search.progress import Progress

    directory = _directory(words[:1])
    words, allow = _taken(words[1:], "--allow")
    here = [f"--runs={directory.path.parent}", f"--name={directory.path.name}"]  # wherever it came from
    settings = Settings.parse([str(directory.config), *here, *words], HOMES, allow)
    result = assemble(settings, Progress(), searches=False).export()
    result.show(Console())
    print(directory.models)
    return DONE


def _dashboard(words: list[str]) -> int:
    """Show the Optuna view of a run in optuna-dashboard: ``dashboard runs/NAME --port 8080``; options that
    begin with ``--study.`` say where the view is, as in a run.
    """
    from importlib.util import find_spec

    from search.config.stored import StoredConfig
    from search.config.study import StudySettings
    from spaces.errors import InputError

    directory = _directory(words[:1])
    if find_spec("optuna_dashboard") is None:
        raise InputError(
            "dashboard: optuna-dashboard is not installed; expected the dashboard extra: pip install "
            "secateur[dashboard]"
        )
    ours, others = _of_the_study(words[1:])
    settings = StoredConfig(directory.config, [], HOMES, []).section("study", StudySettings, ours)
    storage = settings.url([directory.path])
    if storage is not None and not re.match(r"\w[\w+]*://", storage):  # it becomes a word of a command
        raise InputError("study: what it gives is no URL; expected that of a database, or null")
    # -P: what lies in the current folder, perhaps that of the run, is not imported
    python, here = [sys.executable, "-P"], str(Path(__file__).resolve().parents[1])
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    if storage is None and not directory.study.exists():
        study = [*python, "-m", "search.study", str(directory.path)]
        subprocess.run(study, check=True, env=environment)
    start = "from search.study.dashboard import main; main()"
    if storage is None:
        command = [*python, "-c", start, str(directory.path), str(directory.study), *others]
    else:
        # a URL goes through the environment: everybody can read the words of a command
        environment[_STORAGE] = storage
        start = f"import os, sys; sys.argv.insert(2, os.environ.pop('{_STORAGE}')); {start}"
        command = [*python, "-c", start, str(directory.path), *others]
    try:
        return subprocess.run(command, check=False, env=environment).returncode
    except KeyboardInterrupt:  # so it is ended
        return DONE


def _init(words: list[str]) -> int:
    """Write a configuration for a model and data."""
    print("making model and data once, to see that they fit (some seconds)", file=sys.stderr)
    from secateur.init import write_config

    file = write_config(words, program())
    print(f"{file} is written: {program()} plan {file} says what it comes to, {program()} {file} runs it")
    return DONE


def _calibrate(words: list[str]) -> int:
    """Measure on this machine what latency is predicted from: ``calibrate CONFIG.yaml --output FILE``."""
    from search.config.assembly import assemble
    from search.config.settings import Settings
    from spaces.errors import InputError

    words, output = _taken(words, "--output")
    file = Path(output[-1] if output else "latency.json")
    preparation = assemble(Settings.parse(words, HOMES), searches=False).preparation
    preparation.untrained()
    problem = preparation.check(preparation.make_space(), rehearse=True, reachable=False)
    if not problem.evaluator.write_calibration(file):
        raise InputError("evaluators: none predicts what it measured before; expected LatencyModel")
    print(f"{file}: LatencyModel takes it as its setting `calibration`")
    return DONE


def _doctor(words: list[str]) -> int:
    """See what is missing here."""
    from secateur.doctor import examine
    from spaces.errors import InputError

    option, _, folder = words[0].partition("=") if words else ("--runs", "", "runs")
    if option != "--runs" or len(words) > 2 or not (folder := folder or "".join(words[1:])):
        raise InputError(f"doctor: {' '.join(words)}; expected nothing, or --runs FOLDER")
    print("looking at this machine; Ray is started once, which takes up to a minute", file=sys.stderr)
    states = set()
    for finding in examine(Path(folder)):
        print(finding, flush=True)
        states.add(finding.state)
    print("something is missing, see above" if "missing" in states else "a search can run here")
    return STOPPED if "missing" in states else DONE


_STORAGE = "SECATEUR_DASHBOARD_STORAGE"


def _of_the_study(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide the words of a command line into those that say where the view is, and all others."""
    ours: list[str] = []
    others: list[str] = []
    taken = others
    for word in words:
        if word.startswith("-"):
            taken = ours if word.startswith("--study.") else others
        taken.append(word)
    return ours, others


def _directory(words: Sequence[str]) -> RunDirectory:
    """The run that a command is about."""
    from search.record.directory import RunDirectory
    from spaces.errors import InputError

    if len(words) != 1:
        raise InputError(
            f"run: expected the folder of one run, as in {program()} report runs/digits-channels"
        )
    return RunDirectory.open(words[0])


def _taken(words: Sequence[str], option: str) -> tuple[list[str], list[str]]:
    """Return the words without an option and its values, and the values."""
    left, values = [], []
    rest = iter(words)
    for word in rest:
        name, is_joined, value = word.partition("=")
        if name == option:
            values.append(value if is_joined else next(rest, ""))
        else:
            left.append(word)
    return left, values


def _ending(result: Result) -> str:
    counts = result.counts
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    pruned = f", {counts['pruned']} pruned" if counts["pruned"] else ""
    found = f"{counts['evaluations']} evaluations{pruned}{failed}" + (
        "" if result.trials else f", {len(result.front)} on the front"
    )
    if result.complete:
        more = "--search.budget.target" if result.ending.kind == "target" else "--search.budget.evaluations"
        how = f"another {more}" if result.ending.kind == "target" else f"a larger {more}"
        return f"complete: {found} (ended by: {result.reason}); {how} goes on from here"
    if result.ending.kind == "interrupted":
        return f"interrupted: {found}; the same command goes on from here"
    return f"ended by: {result.reason}; {found}"


def _whereabouts(directory: Path) -> str:
    places = {"report": directory / "report.html", "models": directory / "models"}
    lines = [f"{name}: {place}" for name, place in places.items() if place.exists()]
    return "\n".join([*lines, f"dashboard: {program()} dashboard {directory}"])


def _unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback without secrets."""
    from spaces.redaction import redacted_text

    print(redacted_text("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end things as Ctrl-C does, so that workers and files are given back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "init": _init,
    "plan": _plan,
    "run": _run,
    "report": _report,
    "export": _export,
    "dashboard": _dashboard,
    "calibrate": _calibrate,
    "doctor": _doctor,
}

if __name__ == "__main__":
    sys.exit(main())
