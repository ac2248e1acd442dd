"""Writing the report and the front's table of numbers into the run directory."""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
import io
from collections.abc import Sequence
from html import escape
from importlib import metadata
from pathlib import Path

from evaluators.base import State
from search.numbers import title
from search.record.finals import Final
from search.record.ledger import Ledger
from search.report import cell_figures, figures, phrases, supernet_figures, trial_figures
from search.report.cell_facts import CellFacts
from search.report.facts import Facts, gather
from search.report.front_figure import front_figure
from search.report.page import drawing, page, pair, section
from spaces.files import write_bytes

REPORT, FRONT = "report.html", "front.csv"


def write_report(directory: str | Path) -> Path:
    """Write ``report.html`` and ``front.csv`` of a run, from its ledger alone: no model, no data, no network.

    Args:
        directory: of the run.

    Returns:
        The path of the report.

    Raises:
        InputError: where there is no ledger, or none that has begun.
    """
    directory = Path(directory)
    with contextlib.closing(Ledger.reader(directory / "ledger.db")) as ledger:
        facts = gather(ledger)
    write_bytes(directory / FRONT, front_csv(facts).encode())
    # it quotes the configuration, which may hold what only its owner should read
    write_bytes(directory / REPORT, report_html(facts, directory).encode(), private=True)
    return directory / REPORT


def report_html(facts: Facts, directory: Path) -> str:
    """Return the report as one HTML document."""
    surroundings = phrases.surroundings(directory)
    parts = [
        section("There is no front", "", escape(facts.complaint)) if facts.complaint else "",
        *(_trials(facts) if facts.trials else []),
        *(_cells(facts, facts.cells) if facts.cells is not None else []),
        *(_courses(facts) if facts.courses else []),
        *_front(facts),
        _progress(facts),
        section("The rungs", ladder, _RUNGS) if (ladder := phrases.rungs_table(facts)) else "",
        *(_masks(facts) if not facts.trials and not facts.courses else []),
        _trouble(facts),
        section(
            "The front in numbers", phrases.front_table(facts), "As the search saw it; also in front.csv."
        )
        if facts.front and not _has_one_best(facts)
        else "",
        section("Settings and environment", surroundings) if surroundings else "",
    ]
    now = dt.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    footer = (
        f"Written by Secateur {metadata.version('secateur')} on {now}, from ledger.db alone. This page "
        "loads nothing from anywhere."
    )
    return page(facts.about.name, phrases.sentence(facts), phrases.cards(facts), parts, footer)


def _has_one_best(facts: Facts) -> bool:
    """Whether the front is the best trial, which its own sections show."""
    return bool(facts.trials) and len(facts.objectives) == 1


def _front(facts: Facts) -> list[str]:
    """The front as figures, and what became of its members."""
    parts = []
    if len(facts.objectives) > 1 and len(facts.ids):
        parts.append(section("The front", drawing(front_figure(facts), "front"), _front_words(facts)))
    if len(facts.objectives) > 2 and facts.front:
        lines = drawing(figures.objectives_figure(facts), "objectives")
        parts.append(section("All objectives", lines, "A line is a member of the front."))
    if facts.finals and not facts.trials:
        about = _TRAINED if facts.courses else _FINISHED
        parts.append(section("Finished models", phrases.finals_table(facts), about))
    return parts


def _progress(facts: Facts) -> str:
    """How the front grew, and by which operators."""
    if not facts.history or _has_one_best(facts) or facts.courses:
        return ""
    return pair(
        section(
            "Progress",
            drawing(figures.history_figure(facts), "history"),
            "Hypervolume of the front after so many evaluations; 1 is the box from the best to the worst "
            "values that any front had.",
        ),
        section(
            "Operators",
            drawing(figures.operators_figure(facts), "operators"),
            "Which operators make members of the front. Beside each name: its candidates.",
        ),
    )


def _masks(facts: Facts) -> list[str]:
    """What members of the front keep, and their ancestors."""
    parts = []
    if facts.front:
        kept = drawing(figures.channels_figure(facts), "channels")
        parts.append(section("What stays of each layer", kept, _CHANNELS))
    if facts.front and facts.parents:
        ancestors = drawing(figures.lineage_figure(facts), "lineage")
        parts.append(section("Where they come from", ancestors, _LINEAGE))
    return parts


def _trouble(facts: Facts) -> str:
    """What could not be pruned, and which candidates failed."""
    frozen, failures = phrases.frozen_table(facts), phrases.failures_table(facts.reasons)
    failed = f"{facts.states['failed']:,} of {facts.evaluated:,} candidates failed; the search went on."
    about = "Every axis that the search leaves whole, with the reason."
    return pair(
        section("What cannot be pruned", frozen, about) if frozen else "",
        section("Failures", failures, failed) if failures else "",
    )


def _trials(facts: Facts) -> list[str]:
    """The sections of a hyper-parameter search."""
    found = trial_figures.importances(facts)
    complete = any(row.evaluation.state is State.COMPLETE for row in facts.trials)
    watched = (
        f"What was watched: {escape(title(facts.about.monitor or facts.objectives[0]))}. A line ends where "
        "its trial was stopped."
    )
    return [
        section("The best trials", phrases.best_trials(facts), _TESTED if facts.finals else "")
        if complete
        else "",
        section("Learning curves", drawing(trial_figures.curves_figure(facts), "curves"), watched),
        section(
            "Parameters",
            drawing(trial_figures.parameters_figure(facts, list(found)), "parameters"),
            _PARAMETERS,
        )
        if complete
        else "",
        pair(
            section(
                "What matters", drawing(trial_figures.importances_figure(found), "importances"), _IMPORTANCES
            )
            if found
            else "",
            section("Stopped trials", stopped, "Trials that did not come to their end, and why.")
            if (stopped := phrases.stopped_table(facts))
            else "",
        ),
    ]


def _courses(facts: Facts) -> list[str]:
    """The sections of a search of cells: those of its best candidate, and what all of them cost."""
    best = facts.courses[0]
    share = best.metrics["search_cost"]
    epochs = round(sum(best.macs) / (share * best.macs.max())) if share else best.epochs
    cost = (
        f"{escape(_COST)} The best candidate paid {100 * share:.0f} % of a search of all {epochs} epochs "
        "with all operations."
    )
    return [
        section(
            f"The cell of candidate {best.id}",
            drawing(supernet_figures.architecture_figure(best), "cell"),
            f"<code>{escape(best.genotype)}</code>",
        ),
        section("Cases", drawing(supernet_figures.cases_figure(best), "cases"), _CASES) if best.cases else "",
        section(
            "What became of the operations",
            drawing(supernet_figures.importances_figure(best), "operations"),
            _OPERATIONS,
        ),
        pair(
            section(
                "Coming to rest",
                drawing(supernet_figures.divergences_figure(best), "divergences"),
                _DIVERGENCES,
            ),
            section(
                "What an epoch cost",
                drawing(supernet_figures.cost_figure(facts.courses, epochs), "cost"),
                cost,
            ),
        ),
    ]


def _cells(facts: Facts, cells: CellFacts) -> list[str]:
    """The sections of a coevolution."""
    pruned = any(what not in ("stay", "reseed") for _, _, what in cells.events)
    marks = "Amber marks are pruning events." if pruned else "Nothing was pruned."
    several = (
        ", in the cells that have it; below, how many cells have each architecture"
        if cells.architectures()
        else ""
    )
    return [
        section("Reconstructions", drawing(cell_figures.pictures_figure(cells), "pictures"), _PICTURES)
        if cells.pictures
        else "",
        section(
            "The cells over time",
            drawing(cell_figures.cells_figure(cells), "cells"),
            f"{escape(title(cells.objective).capitalize())} of the pair that each cell holds, step by step. "
            f"{marks}",
        ),
        pair(
            section(
                "What is alive",
                drawing(cell_figures.alive_figure(cells), "alive"),
                f"Share of each segment not pruned{several}.",
            ),
            section(
                "Which cells meet",
                drawing(cell_figures.topology_figure(facts, cells), "graph"),
                "Cells, darker where they are better.",
            ),
        ),
    ]


def front_csv(facts: Facts) -> str:
    """Return the front as CSV: candidate, parents, operator, all metrics, kept share of every segment, and
    the finals' figures. Finished models that have left the front of the search since come after it.
    """
    finals: dict[int, list[Final]] = {}
    for final in facts.finals:
        finals.setdefault(final.id, []).append(final)
    names = list(dict.fromkeys(name for member in facts.front for name in member.metrics))
    tested = list(dict.fromkeys(name for final in facts.finals for name in final.test))
    realised = list(dict.fromkeys(name for final in facts.finals for name in final.realised))
    tuned = [name for name in facts.objectives if any(name in final.tuned for final in facts.finals)]
    parameters = {row.id: row.parameters for row in facts.trials}
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    columns = [
        *tested,
        *(f"realised_{name}" for name in realised),
        "folder",
        *(f"tuned_{name}" for name in tuned),
        "on_front",
    ]
    # a trial is told by its parameters, everything else by the kept shares of its segments
    last = [*facts.about.parameters] if facts.trials else [f"kept:{name}" for name, _, _ in facts.segments]
    table.writerow(map(_cell, ["candidate", "operator", "parents", *names, *columns, *last]))
    for place, member in enumerate((*facts.front, *facts.left)):
        candidate, on_front = member.candidate, "yes" if place < len(facts.front) else "no"
        start: list[object] = [candidate.id, candidate.operator, " ".join(map(str, candidate.parents))]
        start += [member.metrics.get(name, "") for name in names]
        if facts.trials:
            end = [parameters[candidate.id].get(name, "") for name in facts.about.parameters]
        else:
            end = [f"{share:.4g}" for share in facts.shares(candidate.genome)]
        # a candidate that was finished with two settings has two rows
        for found in finals.get(candidate.id) or [Final(candidate.id, {})]:
            row = [*start, *_finished(found, tested, realised, tuned), on_front, *end]
            table.writerow(map(_cell, row))
    return file.getvalue()


def _cell(value: object) -> object:
    """A cell that no spreadsheet takes for a formula; numbers stay as they are."""
    is_formula = isinstance(value, str) and value[:1] in tuple("=+-@\t\r") and not _is_number(value)
    return f"'{value}" if is_formula else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _finished(
    final: Final, tested: Sequence[str], realised: Sequence[str], tuned: Sequence[str]
) -> list[object]:
    """The cells of a finished member: tests, costs as counted, folder, objectives after the fine-tuning."""
    columns = ((final.test, tested), (final.realised, realised))
    figures = [values.get(name, "") for values, names in columns for name in names]
    return [*figures, final.folder, *(final.tuned.get(name, "") for name in tuned)]


def _front_words(facts: Facts) -> str:
    words = "Each point is a candidate as the search saw it, before any fine-tuning; the line is the front."
    return words + (
        " Amber marks show the chosen members on the test split: fine-tuning takes them from the circle to "
        "the diamond."
        if facts.finals
        else ""
    )


_FINISHED = (
    "Tested on the test split, which the search never saw. Requested is what the search computed, realised "
    "what was counted on the "
    "exported model; the checks are the largest differences to the masked full model, and of ONNX Runtime "
    "to torch."
)
_TESTED = (
    "As the search saw them. The best one was tested, once, on data that the search never saw, with the "
    "weights it was trained to."
)
_PARAMETERS = (
    "Trials that came to their end: every line is one, the darkest is the best. Drag along an axis to pick "
    "some."
)
_IMPORTANCES = (
    "How much of the variance of the objective each parameter explains, among the trials that came to "
    "their end (fANOVA)."
)
_CHANNELS = (
    "Kept channels of every group, for members of the front from the smallest to the largest. A pale row "
    "is a layer that was hardly needed."
)
_PICTURES = "Samples of the test split, and what the exported members of the front make of them."
_LINEAGE = (
    "The ancestors of the exported members: when each was asked, what it costs, and which operator made it. "
    "Members of the front are outlined."
)
_TRAINED = (
    "Tested on the test split, which the search never saw, with the weights that the cell was trained to. "
    "Realised is what was counted on "
    "the exported model; the checks are the largest difference of ONNX Runtime to torch."
)
_CASES = "Dice overlap of every case of the test split, without cells and with them."
_OPERATIONS = (
    "Importance, the softmax of the architecture parameters over the operations that are left, an edge a "
    "panel. A cross is an operation "
    "that goes: nothing is paid for it from there on. Edges in bold are in the cell that was found."
)
_DIVERGENCES = (
    "Jensen-Shannon divergence between an edge's importances of the latest epochs and of those before; "
    "crosses are removals."
)
_RUNGS = (
    "How many candidates were looked at on each rung and trained on from there; and Kendall's rank "
    "correlation of what it said with what "
    "became of those that came to the last one, size held fixed: 1 is the same order, 0 chance."
)
_COST = "Multiply-accumulates of an epoch, and the memory of a training step."
