"""The front as a table of numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from search.record.finals import Final
from search.report.facts import Facts


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
    small = list(dict.fromkeys(name for final in facts.finals for name in final.int8_figures))
    parameters = {row.id: row.parameters for row in facts.trials}
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    columns = [
        *tested,
        *(f"realised_{name}" for name in realised),
        *small,
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
            row = [*start, *_finished(found, tested, realised, small, tuned), on_front, *end]
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
    final: Final,
    tested: Sequence[str],
    realised: Sequence[str],
    small: Sequence[str],
    tuned: Sequence[str],
) -> list[object]:
    """The cells of a finished member: tests, costs as counted, its int8 file, folder, objectives after the
    fine-tuning.
    """
    columns = ((final.test, tested), (final.realised, realised), (final.int8_figures, small))
    figures = [values.get(name, "") for values, names in columns for name in names]
    return [*figures, final.folder, *(final.tuned.get(name, "") for name in tuned)]
