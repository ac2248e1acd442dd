"""Colours and type of the report, for its page and its figures alike."""

from __future__ import annotations

from html import escape

import plotly.graph_objects as go

INK, SOFT, FAINT, LINE, PAPER = "#1b2430", "#5d6b7a", "#9aa6b2", "#e6e9ed", "#ffffff"
TEAL, TEAL_SOFT, AMBER, ROSE, INDIGO = "#0b7a75", "#8fc9c4", "#d9730d", "#c2415b", "#3d4db7"
CYCLE = (TEAL, AMBER, INDIGO, ROSE, "#6b8e23", "#8a5cc2", "#2a9fd6", "#a1662f", "#5d6b7a", "#d4a017")
FONT = "Inter, 'Segoe UI', system-ui, -apple-system, 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"
SCALE = ((0.0, "#f4f7f7"), (0.25, "#cfe6e3"), (0.5, "#8fc9c4"), (0.75, "#3f9c96"), (1.0, "#075e5a"))
"""From nothing kept to everything kept."""


def plain(text: str) -> str:
    """Return a text of the user's as a figure shows it letter by letter: plotly reads tags in all labels, and
    ``%{...}`` in those that appear below the pointer.
    """
    return escape(text, quote=False).replace("%{", "%&#123;")


def dress(figure: go.Figure, height: int, **layout: object) -> go.Figure:
    """Give a figure the report's look; the width is the page's."""
    axis = {"gridcolor": LINE, "zeroline": False, "linecolor": FAINT, "ticks": "", "automargin": True}
    axis |= {"title": {"standoff": 12, "font": {"size": 13, "color": SOFT}}, "tickfont": {"size": 12}}
    figure.update_layout(
        height=height,
        autosize=True,
        paper_bgcolor=PAPER,
        plot_bgcolor=PAPER,
        font={"family": FONT, "size": 13, "color": INK},
        margin={"l": 12, "r": 16, "t": 16, "b": 12},
        hoverlabel={
            "bgcolor": PAPER,
            "bordercolor": LINE,
            "font": {"family": FONT, "size": 12, "color": INK},
        },
        legend={
            "orientation": "h",
            "yanchor": "bottom",
            "y": 1.02,
            "x": 0,
            "xanchor": "left",
            "font": {"size": 12, "color": SOFT},
        },
        xaxis=axis,
        yaxis=axis,
    )
    return figure.update_layout(**layout)
