"""The figures of the finished models: quality on the test split over what a model costs."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from search.numbers import bound, title
from search.record.about import About
from search.record.finals import BASE, Final
from search.report import style


def over_figure(
    finals: Sequence[Final], about: About, quality: str, cost: str, taken: Final | None
) -> go.Figure:
    """Return a test figure over a cost: the base model, and every exported model with its name.

    Args:
        finals: the base model and the members.
        about: the run.
        quality: a metric that was tested.
        cost: as counted on, or measured with, the exported models.
        taken: the model that stands out.
    """
    plot = go.Figure(_members(finals, quality, cost, taken))
    _base(plot, finals, quality, cost)
    _limit(plot, about, cost)
    style.dress(plot, 360)
    unit = ", ms" if cost.endswith("_ms") else ""
    costs = [final.realised[cost] for final in finals if cost in final.realised]
    limits = [one["limit"] for one in about.constraints if one["metric"] == cost]
    name = f"{style.plain(title(cost))}{unit}"
    plot.update_xaxes(title_text=name, tickformat="~g" if unit else "~s", range=_span([*costs, *limits]))
    plot.update_yaxes(range=_room([value for trace in plot.data for value in trace.y]), tickformat="~g")
    return plot.update_yaxes(title_text=f"test {style.plain(title(quality))}")


def _members(finals: Sequence[Final], quality: str, cost: str, taken: Final | None) -> go.Scatter:
    """The exported models, with their names."""
    key = f"test_{quality}"
    members = [final for final in finals if final.id != BASE and key in final.test and cost in final.realised]
    return go.Scatter(
        x=[final.realised[cost] for final in members],
        y=[final.test[key] for final in members],
        mode="markers+text",
        text=[f"<b>{final.id}</b>" if final == taken else str(final.id) for final in members],
        textposition="top center",
        textfont={"size": 12, "color": style.INK},
        customdata=[final.name for final in members],
        meta="models",  # the page's limits fade its marks
        marker={
            "symbol": "diamond",
            "size": [15 if final == taken else 10 for final in members],
            "color": [style.TEAL if final == taken else style.AMBER for final in members],
            "line": {"width": 1.4, "color": style.PAPER},
        },
        hovertemplate=_hover("%{customdata}", quality, cost),
        showlegend=False,
    )


def _limit(plot: go.Figure, about: About, cost: str) -> None:
    """The limits of this cost."""
    for constraint in about.constraints:
        if constraint["metric"] == cost:
            label: dict[str, object] = {"text": style.plain(bound(constraint)), "textangle": 0}
            label |= {"font": {"size": 12, "color": style.ROSE}, "textposition": "start"}
            label |= {"xanchor": "right", "yanchor": "bottom"}
            line = {"color": style.ROSE, "width": 1.2, "dash": "dash"}
            plot.add_vline(x=constraint["limit"], line=line, label=label)


def _span(costs: Sequence[float]) -> list[float]:
    """A range from zero with room for names at the right; a part of it where all costs are close together."""
    low, high = min(costs, default=0.0), max(costs, default=1.0)
    if high / 2 < low < high:
        return [low - 0.3 * (high - low), high + 0.3 * (high - low)]
    return [0, 1.25 * high]


def _room(values: Sequence[float]) -> list[float]:
    """A range with room for the names above and below the marks."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    span = (high - low) or abs(high) or 1.0
    return [low - 0.22 * span, high + 0.2 * span]


def _base(plot: go.Figure, finals: Sequence[Final], quality: str, cost: str) -> None:
    """The base model: as it was, and after the same fine-tuning."""
    base = next((final for final in finals if final.id == BASE), None)
    if base is None or cost not in base.realised:
        return
    before, after = base.test.get(f"test_{quality}_before"), base.test.get(f"test_{quality}")
    shown = [(before, "base model", "star")] if before is not None else []
    if after is not None:
        shown.append((after, "base model" if before is None else "base, tuned", "star-open"))
    highest = max((value for value, _, _ in shown), default=0.0)
    plot.add_trace(
        go.Scatter(
            x=[base.realised[cost]] * len(shown),
            y=[value for value, _, _ in shown],
            mode="markers+text",
            text=[name for _, name, _ in shown],
            textposition=["top center" if value == highest else "bottom center" for value, _, _ in shown],
            textfont={"size": 12, "color": style.INK},
            customdata=[name for _, name, _ in shown],
            marker={"symbol": [mark for _, _, mark in shown], "size": 14, "color": style.INK},
            hovertemplate=_hover("%{customdata}", quality, cost),
            showlegend=False,
        )
    )


def _hover(name: str, quality: str, cost: str) -> str:
    first, second = style.plain(title(quality)), style.plain(title(cost))
    format = ",.3f" if cost.endswith("_ms") else ",.4s"
    return f"<b>{name}</b><br>test {first} %{{y:.4g}}<br>{second} %{{x:{format}}}<extra></extra>"
