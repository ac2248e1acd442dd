"""The front: what was found, what it costs, and what fine-tuning made of it."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from search.numbers import bound, title
from search.record.finals import BASE
from search.report import style
from search.report.facts import Facts
from search.report.table import was_tuned

_POINTS = 2500
"""Most points of one kind: beyond, a random part stands for all, and the legend says so."""
_WIDE = 30
"""Times that costs on a front differ from which on the axis is logarithmic: most of the front would lie at
its very beginning.
"""


def front_figure(facts: Facts) -> go.Figure:
    """Return the first objective over the second: candidates, front, base model, limits, and members before
    and after fine-tuning.

    Of more objectives the first two are shown; the front is then drawn as points only, for it is no line in
    two dimensions.
    """
    quality, cost = facts.objectives[:2]
    plot = go.Figure()
    on_front = np.isin(facts.ids, [member.candidate.id for member in facts.front])
    _cloud(
        plot,
        facts,
        ~facts.feasible,
        "beyond a limit",
        {"color": "#e9c9c9", "size": 5, "symbol": "x-thin", "line": {"width": 1, "color": "#dba7ab"}},
    )
    _cloud(
        plot,
        facts,
        facts.feasible & ~on_front,
        "dominated",
        {"color": "#c3ccd4", "size": 4.5, "opacity": 0.65},
    )
    _front_line(plot, facts)
    _finals(plot, facts)
    if quality in facts.about.base and cost in facts.about.base:
        plot.add_trace(
            go.Scatter(
                x=[facts.about.base[cost]],
                y=[facts.about.base[quality]],
                mode="markers+text",
                name="base model",
                text=["base model  "],
                textposition="middle left",
                textfont={"size": 12, "color": style.INK},
                marker={"symbol": "star", "size": 15, "color": style.INK},
                hovertemplate=_hover("base model", quality, cost),
                showlegend=False,
            )
        )
    _limits(plot, facts, cost, quality)
    focus = _focus(facts, quality)
    style.dress(plot, 470)
    plot.update_xaxes(title_text=style.plain(title(cost)), tickformat="~s", **_scale(facts, cost))
    plot.update_yaxes(title_text=f"{style.plain(title(quality))} on the search split", tickformat="~g")
    if focus is not None:
        plot.update_yaxes(range=focus)
    return plot


def views(facts: Facts) -> list[tuple[str, dict[str, object]]]:
    """Return the ranges of the figure that people choose from: names, and layouts of plotly; the first is how
    it is drawn. There is nothing to choose where all of it matters.
    """
    focus = _focus(facts, facts.objectives[0])
    if focus is None:
        return []
    whole: dict[str, object] = {"yaxis.autorange": True, "yaxis.type": "linear"}
    return [("where it matters", {"yaxis.range": focus, "yaxis.type": "linear"}), ("everything", whole)]


def _cloud(plot: go.Figure, facts: Facts, which: np.ndarray, name: str, marker: dict[str, object]) -> None:
    quality, cost = facts.objectives[:2]
    rows = np.flatnonzero(which)
    if not len(rows):
        return
    label = f"{name} ({len(rows):,})"
    if len(rows) > _POINTS:
        rows = np.sort(np.random.default_rng(0).choice(rows, _POINTS, replace=False))
        label = f"{name} ({_POINTS:,} of {which.sum():,} shown)"
    plot.add_trace(
        go.Scatter(
            x=_rounded(facts.metrics[cost][rows]),
            y=_rounded(facts.metrics[quality][rows]),
            customdata=facts.ids[rows].tolist(),
            mode="markers",
            name=label,
            marker=marker,
            hovertemplate=_hover("candidate %{customdata}", quality, cost),
        )
    )


def _front_line(plot: go.Figure, facts: Facts) -> None:
    if not facts.front:
        return
    quality, cost = facts.objectives[:2]
    members = sorted(facts.front, key=lambda member: member.metrics[cost])
    flat = len(facts.objectives) == 2
    stairs = "hv" if not facts.about.objectives[1]["maximise"] else "vh"
    plot.add_trace(
        go.Scatter(
            x=[member.metrics[cost] for member in members],
            y=[member.metrics[quality] for member in members],
            customdata=[member.candidate.id for member in members],
            mode="lines+markers" if flat else "markers",
            line={"color": style.TEAL, "width": 2, "shape": stairs},
            marker={"color": style.TEAL, "size": 7, "line": {"color": style.PAPER, "width": 1}},
            name=f"front ({len(members)})",
            hovertemplate=_hover("candidate %{customdata}", quality, cost),
        )
    )


def _finals(plot: go.Figure, facts: Facts) -> None:
    quality, cost = facts.objectives[:2]
    before, after = f"test_{quality}_before", f"test_{quality}"
    finals = [
        final for final in facts.finals if after in final.test and cost in (final.realised | final.searched)
    ]
    if not finals:
        return
    x = [(final.searched | final.realised)[cost] for final in finals]
    lines_x = [value for position in x for value in (position, position, None)]
    lines_y = [value for final in finals for value in (final.test.get(before), final.test[after], None)]
    plot.add_trace(
        go.Scatter(
            x=lines_x,
            y=lines_y,
            mode="lines",
            line={"color": style.AMBER, "width": 1.2, "dash": "dot"},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    kinds = [
        ("test split, before fine-tuning", before, "circle-open", style.AMBER),
        ("test split, after fine-tuning", after, "diamond", style.AMBER),
    ]
    if not was_tuned(finals):
        kinds = [("test split, not fine-tuned", *kinds[1][1:])]
    for name, key, symbol, fill in kinds:
        plot.add_trace(
            go.Scatter(
                x=x,
                y=[final.test.get(key) for final in finals],
                customdata=[final.name for final in finals],
                mode="markers+text" if key == after else "markers",
                text=[str(final.id) if final.id != BASE else "" for final in finals],
                textposition="bottom center",
                textfont={"size": 11, "color": style.AMBER},
                name=name,
                marker={
                    "symbol": symbol,
                    "size": 10,
                    "color": fill,
                    "line": {"width": 1.6, "color": fill if symbol.endswith("open") else style.PAPER},
                },
                hovertemplate=_hover("%{customdata}, test split", quality, cost),
            )
        )


def _limits(plot: go.Figure, facts: Facts, cost: str, quality: str) -> None:
    for constraint in facts.about.constraints:
        label = {"text": style.plain(bound(constraint)), "font": {"size": 12, "color": style.ROSE}}
        line = {"color": style.ROSE, "width": 1.2, "dash": "dash"}
        if constraint["metric"] == cost:
            plot.add_vline(
                x=constraint["limit"],
                line=line,
                label=label
                | {"textposition": "end", "textangle": 0, "xanchor": "left", "yanchor": "top", "padding": 6},
            )
        elif constraint["metric"] == quality:
            plot.add_hline(y=constraint["limit"], line=line, label=label | {"textposition": "end"})


def _scale(facts: Facts, cost: str) -> dict[str, object]:
    """How the cost's axis is divided."""
    costs = [member.metrics[cost] for member in facts.front]
    wide = bool(costs) and 0 < _WIDE * min(costs) <= max(*costs, facts.about.base.get(cost, 0.0))
    return {"type": "log", "dtick": "D2"} if wide else {"rangemode": "tozero"}


def _focus(facts: Facts, quality: str) -> list[float] | None:
    """The range of the first objective that a person would look at, where collapsed members of the front
    stretch the axis.
    """
    base = facts.about.base.get(quality)
    values = np.array([member.metrics[quality] for member in facts.front])
    if base is None or len(values) < 3 or facts.about.objectives[0]["maximise"]:
        return None
    low, high = min(float(values.min()), base), float(values.max())
    near = base + 0.35 * (high - base)
    if high <= near or high - low < 1e-12:
        return None
    return [low - 0.06 * (near - low), near]


def _hover(name: str, quality: str, cost: str) -> str:
    first, second = style.plain(title(quality)), style.plain(title(cost))
    return f"<b>{name}</b><br>{first} %{{y:.4g}}<br>{second} %{{x:,.4s}}<extra></extra>"


def _rounded(values: np.ndarray) -> list[float]:
    """Six digits are enough for a screen, and halve the file."""
    return [float(f"{value:.6g}") for value in values]
