"""The trials of a hyper-parameter search as a ledger has them: what people see of them in the table and the
report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from evaluators.base import Cause, Evaluation, State
from search.numbers import number, setting, title
from search.record.about import About
from search.record.finals import Final
from search.record.ledger import Ledger

SHOWN = ("train_loss", "loss", "tic_bias", "predicted_loss", "movement")
"""Metrics that are shown of every trial that has them."""


@dataclass(frozen=True, eq=False)
class TrialRow:
    """A trial.

    Attributes:
        evaluation: what came of it.
        parameters: that are active, by name.
        curve: ``(step, value)`` of what was watched.
    """

    evaluation: Evaluation
    parameters: dict[str, Any]
    curve: list[tuple[int, float]]

    @property
    def id(self) -> int:
        return self.evaluation.candidate.id

    @property
    def diverged(self) -> bool:
        return self.evaluation.cause is Cause.DIVERGED

    @property
    def paused(self) -> bool:
        return self.evaluation.cause is Cause.PAUSED


def gather_trials(ledger: Ledger, about: About, curves: bool = True) -> list[TrialRow]:
    """Return all trials in the order in which they were asked; none where the space had no parameters for
    Optuna.
    """
    if not about.parameters:
        return []
    from search.curves import curve
    from search.study.parameters import Decoder

    decode, monitor = Decoder(about.parameters), about.monitor or about.objectives[0]["metric"]
    rows = []
    for _, evaluation in ledger.evaluations():
        reports = ledger.reports(evaluation.candidate.id) if curves else []
        line = curve(monitor, [(report.step, report.metrics) for report in reports])
        rows.append(TrialRow(evaluation, decode(evaluation.candidate.genome), list(line.items())))
    return sorted(rows, key=lambda row: row.id)


def best_first(rows: Sequence[TrialRow], about: About) -> list[TrialRow]:
    """Return the trials that came to their end, the best in the first objective first."""
    goal = about.objectives[0]
    sign = -1 if goal["maximise"] else 1
    complete = [row for row in rows if row.evaluation.state is State.COMPLETE]
    return sorted(complete, key=lambda row: (sign * row.evaluation.metrics[goal["metric"]], row.id))


def trials_table(
    rows: Sequence[TrialRow], about: About, finals: Sequence[Final] = (), most: int = 10
) -> Table:
    """Return the table at the end of a hyper-parameter search: the best trials with their parameters, and how
    the best one was tested.
    """
    shown = best_first(rows, about)[:most]
    goals = [goal["metric"] for goal in about.objectives]
    there = {name for row in shown for name in row.evaluation.metrics}
    metrics = [*goals, *(name for name in SHOWN if name not in goals and name in there)]
    names = [name for name in about.parameters if any(name in row.parameters for row in shown)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", caption_justify="left")
    table.add_column("trial", justify="right", no_wrap=True)
    for name in metrics:
        table.add_column(escape(title(name)), justify="right", no_wrap=True)
    for name in names:
        table.add_column(escape(short(name)), justify="right", no_wrap=True)
    for row in shown:
        table.add_row(str(row.id), *_cells(row, metrics, names))
    table.caption = Text("\n".join([counted(rows), *map(_note, finals)]))
    return table


def _cells(row: TrialRow, metrics: Sequence[str], parameters: Sequence[str]) -> list[str]:
    known = row.evaluation.metrics
    cells = [number(known[name], name) if name in known else "" for name in metrics]
    chosen = [setting(row.parameters[name]) if name in row.parameters else "-" for name in parameters]
    return [*cells, *map(escape, chosen)]


def _note(final: Final) -> str:
    """How a trial was tested, or why it could not be."""
    if final.reason:
        return f"trial {final.id}: {final.reason}"
    figures = (f"{title(name.removeprefix('test_'))} {number(at, name)}" for name, at in final.test.items())
    return f"trial {final.id} on the test split: {', '.join(figures)}"


def counted(rows: Sequence[TrialRow]) -> str:
    """Return ``40 trials: 12 complete, 25 pruned, 2 diverged, 1 failed``."""
    kinds = {
        "complete": sum(row.evaluation.state is State.COMPLETE for row in rows),
        "paused": sum(row.paused for row in rows),
        "pruned": sum(
            row.evaluation.state is State.PRUNED and not row.paused and not row.diverged for row in rows
        ),
        "diverged": sum(row.diverged for row in rows),
        "failed": sum(row.evaluation.state is State.FAILED for row in rows),
    }
    return f"{len(rows)} trials: {', '.join(f'{number} {kind}' for kind, number in kinds.items() if number)}"


def short(name: str) -> str:
    """Return a parameter's name without the part that takes it: ``lr`` of ``optimiser.lr``."""
    return name.split(".", 1)[-1]
