"""What a result shows of itself in a notebook: a table, a figure, a data frame."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from rich.table import Table
from rich.text import Text

from evaluators.base import Evaluation, State
from search.numbers import title
from search.record.about import About
from search.record.finals import BASE, Final
from search.report import style
from search.report.advice import advise, main_cost, main_quality
from search.report.models_figures import over_figure
from search.report.trials import TrialRow
from spaces.errors import InputError

if TYPE_CHECKING:
    import pandas


def html_of(above: str, table: Table, below: Sequence[str]) -> str:
    """Return a table as HTML, between a line above it and notes below it; colours are the notebook's own.

    Args:
        above: one line; empty for none.
        table: as a terminal shows it.
        below: lines.
    """
    heads = [_plain(str(column.header)) for column in table.columns]
    columns = [[_plain(str(cell)) for cell in column.cells] for column in table.columns]
    left = [column.justify != "right" for column in table.columns]
    top = "".join(
        f'<th style="text-align:{_side(at)}">{head}</th>' for head, at in zip(heads, left, strict=True)
    )
    lines = [[column[place] for column in columns] for place in range(len(table.rows))]
    body = "".join(_row(cells, left, row.style) for cells, row in zip(lines, table.rows, strict=True))
    parts = [f"<p><b>{escape(above)}</b></p>" if above else ""]
    parts.append(f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>")
    return "".join([*parts, *(f"<p>{escape(line)}</p>" for line in below if line)])


def _row(cells: Sequence[str], left: Sequence[bool], look: object) -> str:
    weight = "font-weight:bold;" if look == "bold" else ""
    line = "".join(
        f'<td style="{weight}text-align:{_side(at)}">{cell}</td>'
        for cell, at in zip(cells, left, strict=True)
    )
    return f"<tr>{line}</tr>"


def _side(is_left: bool) -> str:
    return "left" if is_left else "right"


def _plain(cell: str) -> str:
    """A cell of a terminal's table as HTML, letter by letter."""
    return escape(" ".join(Text.from_markup(cell).plain.split()))


def data_frame(
    front: Sequence[Evaluation], finals: Sequence[Final], trials: Sequence[TrialRow]
) -> pandas.DataFrame:
    """Return the front as a data frame, a member a row: what the search saw, what was tested and counted of
    what was exported, and its folder; of a hyper-parameter search all trials with their parameters.

    Raises:
        InputError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise InputError(
            "to_pandas: pandas is not installed; expected the notebook extra: pip install secateur[notebook]"
        ) from None
    if trials:
        rows = [
            {"trial": row.id, "state": row.evaluation.state.value, **row.parameters, **row.evaluation.metrics}
            for row in trials
        ]
        return pandas.DataFrame(rows).set_index("trial")
    finished: dict[int, list[Final]] = {}
    for final in finals:
        finished.setdefault(final.id, []).append(final)
    members = {member.candidate.id: member for member in front}
    rows = []
    for id in [BASE, *members, *(final.id for final in finals if final.id not in members)]:
        for known in finished.pop(id, [] if id == BASE else [Final(id, {})]):
            rows.append(_member(known, members.get(id)))
    columns = ["candidate", "operator", "folder"]
    return pandas.DataFrame(rows, columns=None if rows else columns).set_index("candidate")


def _member(final: Final, member: Evaluation | None) -> dict[str, object]:
    searched = member.metrics if member is not None else final.searched
    realised = {f"realised_{name}": value for name, value in final.realised.items()}
    operator = member.candidate.operator if member is not None else ""
    name = "base" if final.id == BASE else final.id
    return {
        "candidate": name,
        "operator": operator,
        **searched,
        **final.test,
        **realised,
        **final.int8_figures,
        "folder": final.folder,
    }


def figure(
    front: Sequence[Evaluation],
    finals: Sequence[Final],
    trials: Sequence[TrialRow],
    about: About,
    cost: str | None,
) -> go.Figure:
    """Return what was found as a figure: exported models on the test split over what they cost; where nothing
    was exported, the front as the search saw it; of a hyper-parameter search the objective over the trials.

    Args:
        front: members.
        finals: that were exported.
        trials: of a hyper-parameter search.
        about: the run.
        cost: over which it is drawn: an objective or what was counted, ``latency_ms``; None: the one that
            the search was about.

    Raises:
        InputError: nothing has such a cost.
    """
    if trials:
        return _over_trials(trials, about)
    quality = main_quality(finals, about)
    if quality is not None and any(final.id != BASE for final in finals):
        names = sorted({name for final in finals for name in final.realised})
        over = cost or main_cost(about)
        if over not in names:
            raise InputError(f"plot: nothing was counted as {over!r}; expected one of {', '.join(names)}")
        advice = advise(finals, about)
        return over_figure(finals, about, quality, over, None if advice is None else advice.final)
    return _over_front(front, about, cost)


def _over_trials(trials: Sequence[TrialRow], about: About) -> go.Figure:
    goal = about.objectives[0]["metric"]
    shown = [row for row in trials if row.evaluation.state is State.COMPLETE]
    points = go.Scatter(
        x=[row.id for row in shown],
        y=[row.evaluation.metrics[goal] for row in shown],
        mode="markers",
        marker={"color": style.TEAL, "size": 8},
    )
    plot = style.dress(go.Figure(points), 360)
    plot.update_xaxes(title_text="trial")
    return plot.update_yaxes(title_text=style.plain(title(goal)))


def _over_front(front: Sequence[Evaluation], about: About, cost: str | None) -> go.Figure:
    goals = [goal["metric"] for goal in about.objectives]
    known = sorted({name for member in front for name in member.metrics})
    over = cost or (goals[1] if len(goals) > 1 else "macs")
    if front and over not in known:
        raise InputError(f"plot: the front has no {over!r}; expected one of {', '.join(known)}")
    members = sorted(front, key=lambda member: member.metrics[over])
    points = go.Scatter(
        x=[member.metrics[over] for member in members],
        y=[member.metrics[goals[0]] for member in members],
        customdata=[member.candidate.id for member in members],
        mode="lines+markers" if len(goals) == 2 else "markers",
        line={"color": style.TEAL, "shape": "hv"},
        marker={"color": style.TEAL, "size": 8},
        name="front",
        hovertemplate="candidate %{customdata}<br>%{y:.4g} at %{x:.4s}<extra></extra>",
    )
    plot = go.Figure(points)
    if goals[0] in about.base and over in about.base:
        base = {"x": [about.base[over]], "y": [about.base[goals[0]]], "name": "base model"}
        plot.add_trace(
            go.Scatter(**base, mode="markers", marker={"symbol": "star", "size": 14, "color": style.INK})
        )
    style.dress(plot, 360)
    plot.update_xaxes(title_text=style.plain(title(over)), tickformat="~s", rangemode="tozero")
    return plot.update_yaxes(title_text=f"{style.plain(title(goals[0]))} on the search split")
