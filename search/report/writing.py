"""Writing the report and the front's table of numbers into the run directory."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from html import escape
from importlib import metadata
from pathlib import Path

from evaluators.base import State
from search.numbers import title
from search.record.ledger import Ledger
from search.report import cell_figures, figures, phrases, supernet_figures, trial_figures
from search.report.facts import Facts, gather
from search.report.front_csv import front_csv
from search.report.front_figure import front_figure, views
from search.report.models import Models
from search.report.page import button, cards, drawing, folded, page, pair, section
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
    """Return the report as one HTML document: first what the deployer asks, then what was found and how."""
    models = Models(facts, directory)
    advises = models.is_advising and not facts.trials
    numbers = cards(phrases.cards(facts))
    parts = [
        section("There is no front", "", _sentence(facts.complaint)) if facts.complaint else "",
        section(*models.take(), kind="take") if advises else numbers,
        *_trials(facts, models),
        *_cells(facts),
        *_courses(facts),
        _finished(facts, models),
        *_front(facts),
        _kept(facts),
        _frozen(facts),
        folded("How the search went", *([numbers] if advises else []), *_search(facts)),
        _surroundings(directory),
    ]
    now = dt.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    footer = (
        f"Written by Secateur {metadata.version('secateur')} on {now}, from ledger.db alone. This page "
        "loads nothing from anywhere."
    )
    return page(facts.about.name, phrases.sentence(facts), parts, footer)


def _sentence(words: str) -> str:
    return f"{escape(words[0].upper() + words[1:])}."


def _finished(facts: Facts, models: Models) -> str:
    """What was exported: how good and how fast it is, and which of it fits limits."""
    if not facts.finals or facts.trials:
        return ""
    body = models.figures() + models.limits() + models.table()
    return section("Finished models", body, _TRAINED if facts.courses else _FINISHED)


def _search(facts: Facts) -> list[str]:
    """How the search came to what it found: for those who judge the search."""
    ladder, numbers = phrases.rungs_table(facts), phrases.front_table(facts)
    return [
        _progress(facts),
        section("The rungs", ladder, _RUNGS) if ladder else "",
        _ancestors(facts),
        _failures(facts),
        section("The front in numbers", numbers, "As the search saw it; also in front.csv.")
        if facts.front and not _has_one_best(facts)
        else "",
    ]


def _ancestors(facts: Facts) -> str:
    """Where the members of the front come from."""
    if not _is_pruning(facts) or not facts.front or not facts.parents:
        return ""
    return section("Where they come from", drawing(figures.lineage_figure(facts), "lineage"), _LINEAGE)


def _surroundings(directory: Path) -> str:
    """Settings and environment."""
    words = phrases.surroundings(directory)
    return folded("Settings and environment", section("Settings and environment", words)) if words else ""


def _is_pruning(facts: Facts) -> bool:
    """Whether candidates are masks that other candidates are parents of."""
    return not facts.trials and not facts.courses


def _has_one_best(facts: Facts) -> bool:
    """Whether the front is the best trial, which its own sections show."""
    return bool(facts.trials) and len(facts.objectives) == 1


def _front(facts: Facts) -> list[str]:
    """The front as figures, and what became of its members."""
    parts = []
    if len(facts.objectives) > 1 and len(facts.ids):
        choices = [
            button(name, on=place == 0, view=json.dumps(view), plot="front")
            for place, (name, view) in enumerate(views(facts))
        ]
        buttons = f'<div class="views">{"".join(choices)}</div>' if choices else ""
        body = buttons + drawing(front_figure(facts), "front")
        parts.append(section("The front", body, _front_words(facts)))
    if len(facts.objectives) > 2 and facts.front:
        lines = drawing(figures.objectives_figure(facts), "objectives")
        parts.append(section("All objectives", lines, "A line is a member of the front."))
    return parts


def _progress(facts: Facts) -> str:
    """How the front grew, and by which operators."""
    if not facts.ids.size or _has_one_best(facts) or facts.courses:
        return ""
    return pair(
        section("Progress", drawing(figures.history_figure(facts), "history"), _PROGRESS)
        if facts.history
        else "",
        section(
            "Operators",
            drawing(figures.operators_figure(facts), "operators"),
            "Which operators make members of the front. Beside each name: its candidates.",
        ),
    )


def _kept(facts: Facts) -> str:
    """What members of the front keep of every layer."""
    if not facts.front or not _is_pruning(facts):
        return ""
    return section("What stays of each layer", drawing(figures.channels_figure(facts), "channels"), _CHANNELS)


def _frozen(facts: Facts) -> str:
    """What could not be pruned."""
    frozen = phrases.frozen_table(facts)
    about = "Every axis that the search leaves whole, with the reason."
    return section("What cannot be pruned", frozen, about) if frozen else ""


def _failures(facts: Facts) -> str:
    """Which candidates failed."""
    failures = phrases.failures_table(facts.reasons)
    failed = f"{facts.states['failed']:,} of {facts.evaluated:,} candidates failed; the search went on."
    return section("Failures", failures, failed) if failures else ""


def _trials(facts: Facts, models: Models) -> list[str]:
    """The sections of a hyper-parameter search."""
    if not facts.trials:
        return []
    found = trial_figures.importances(facts)
    complete = any(row.evaluation.state is State.COMPLETE for row in facts.trials)
    best = phrases.best_trials(facts) + models.loaded()
    watched = (
        f"What was watched: {escape(title(facts.about.monitor or facts.objectives[0]))}. A line ends where "
        "its trial was stopped."
    )
    return [
        section("The best trials", best, _TESTED if facts.finals else "") if complete else "",
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
    if not facts.courses:
        return []
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


def _cells(facts: Facts) -> list[str]:
    """The sections of a coevolution."""
    cells = facts.cells
    if cells is None:
        return []
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


def _front_words(facts: Facts) -> str:
    words = "Each point is a candidate as the search saw it, before any fine-tuning; the line is the front."
    return words + (
        " Amber marks show the chosen members on the test split: fine-tuning takes them from the circle to "
        "the diamond."
        if facts.finals
        else ""
    )


_FINISHED = (
    "Tested on the test split, which the search never saw; costs as counted on the exported model, latency "
    "as measured on it. Move a limit to see what is within it."
)
_PROGRESS = (
    "Hypervolume of the front after so many evaluations, as the terminal shows it: a share of the box that "
    "the first 64 candidates settle. It never falls."
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
