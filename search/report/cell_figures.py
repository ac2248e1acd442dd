"""The figures of a coevolution: cells over time, what is alive, reconstructions."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import networkx as nx
import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from search.numbers import title
from search.report import style
from search.report.cell_facts import CellFacts
from search.report.facts import Facts

_COLUMNS = 400
"""Most steps of a heatmap: beyond, they are thinned."""
_EVENTS = 5000
"""Most marks of pruning: beyond, every second or third of them is drawn."""
_SAMPLES = 10
_GREY = [[0, style.PAPER], [1, style.INK]]
_LOOKS = ("gridcolor", "zeroline", "linecolor", "ticks", "automargin", "tickfont", "title")
_ROW = 20
"""Pixels of a row of a legend."""
_LEGEND = {
    "orientation": "h",
    "x": 0,
    "xanchor": "left",
    "yanchor": "bottom",
    "font": {"size": 12, "color": style.SOFT},
    "entrywidth": 0.5,
    "entrywidthmode": "fraction",
}
_HALF = re.compile(r"^(encoder|decoder)(\d+)/\1\.")
"""How :class:`spaces.MixedPairs` names the segments of one of its architectures."""


def cells_figure(cells: CellFacts) -> go.Figure:
    """Return the objective of every cell over its steps, and the moments of pruning."""
    grid = cells.grid()
    steps = np.unique(np.linspace(0, grid.shape[1] - 1, min(grid.shape[1], _COLUMNS)).round().astype(int))
    finite = grid[np.isfinite(grid)]
    low, high = (np.quantile(finite, 0.01), np.quantile(finite, 0.95)) if finite.size else (0.0, 1.0)
    plot = go.Figure(
        go.Heatmap(
            z=_known(grid[:, steps]),
            x=steps.tolist(),
            y=list(range(cells.count)),
            zmin=float(low),
            zmax=float(high),
            colorscale=[
                [stop, color]
                for stop, color in zip(
                    (0, 0.25, 0.5, 0.75, 1), reversed([c for _, c in style.SCALE]), strict=True
                )
            ],
            colorbar={
                "title": {"text": style.plain(title(cells.objective)), "side": "top", "font": {"size": 12}},
                "thickness": 12,
                "outlinewidth": 0,
            },
            hovertemplate="cell %{y}, step %{x}: %{z:.4g}<extra></extra>",
        )
    )
    pruned = [event for event in cells.events if event[2] not in ("stay", "reseed")]
    _mark(plot, "pruned", style.AMBER, pruned[:: math.ceil(len(pruned) / _EVENTS) or 1])
    seeded = [event for event in cells.events if event[2] == "reseed"]
    _mark(plot, "diverged, and begun again from a neighbour", style.ROSE, seeded)
    style.dress(plot, max(260, 90 + 16 * min(cells.count, 40)), showlegend=bool(seeded))
    plot.update_xaxes(title_text="step", showgrid=False, range=[-0.5, max(grid.shape[1], 1) - 0.5])
    return plot.update_yaxes(
        title_text="cell",
        range=[cells.count - 0.5, -0.5],
        showgrid=False,
        dtick=1 if cells.count <= 20 else None,
    )


def _mark(plot: go.Figure, name: str, color: str, events: Sequence[tuple[int, int, str]]) -> None:
    """Put a mark on the steps (step, cell, what was done)."""
    if not events:
        return
    plot.add_trace(
        go.Scatter(
            x=[step for step, _, _ in events],
            y=[cell for _, cell, _ in events],
            customdata=[style.plain(what.replace("+", ", ")) for _, _, what in events],
            mode="markers",
            name=name,
            marker={"color": color, "size": 4},
            hovertemplate="cell %{y}, step %{x}: %{customdata}<extra></extra>",
        )
    )


def topology_figure(facts: Facts, cells: CellFacts) -> go.Figure:
    """Return the graph of the cells, coloured by the last values of the objective."""
    graph = nx.empty_graph(cells.count)
    graph.add_edges_from(facts.about.edges)
    places = _places(graph)
    # of every cell the last value that is one; cells without any are drawn as the worst
    last = [row[np.isfinite(row)][-1] if np.isfinite(row).any() else None for row in cells.grid()]
    worst = max((value for value in last if value is not None), default=0.0)
    # all edges in one trace: a None between two of them lifts the pen
    lines = [(places[a], places[b]) for a, b in graph.edges]
    plot = go.Figure(
        go.Scatter(
            x=[value for a, b in lines for value in (a[0], b[0], None)],
            y=[value for a, b in lines for value in (a[1], b[1], None)],
            mode="lines",
            line={"color": style.LINE, "width": 2},
            hoverinfo="skip",
        )
    )
    plot.add_trace(
        go.Scatter(
            x=[places[cell][0] for cell in graph],
            y=[places[cell][1] for cell in graph],
            mode="markers+text",
            text=[str(cell) for cell in graph],
            textfont={"size": 10},
            marker={
                "size": 26,
                "color": [worst if value is None else value for value in last],  # plotly takes no gaps here
                "colorscale": [[0, style.TEAL_SOFT], [1, style.PAPER]],
                "line": {"color": style.TEAL, "width": 1.2},
            },
            customdata=["" if value is None else f": {value:.4g}" for value in last],
            hovertemplate="cell %{text}%{customdata}<extra></extra>",
        )
    )
    style.dress(plot, 380, showlegend=False)
    plot.update_xaxes(visible=False)
    return plot.update_yaxes(visible=False, scaleanchor="x")


def _places(graph: nx.Graph) -> dict[int, np.ndarray]:
    """Where the nodes of a graph stand: rings, paths and small graphs in a circle."""
    is_ring = max((degree for _, degree in graph.degree()), default=0) <= 2
    places: dict[int, np.ndarray] = (
        nx.circular_layout(graph) if is_ring or len(graph) < 5 else nx.kamada_kawai_layout(graph)
    )
    return places


def alive_figure(cells: CellFacts) -> go.Figure:
    """Return the kept share of every segment over the steps, the mean of the cells that have it; below, how
    many cells have each architecture.
    """
    architectures = cells.architectures()
    upper, lower, between = 250, 110, 34 + _ROW * math.ceil(len(architectures) / 2)
    height = upper + (between + lower if architectures else 0)
    plot = (
        make_subplots(
            rows=2, shared_xaxes=True, row_heights=[upper, lower], vertical_spacing=between / height
        )
        if architectures
        else go.Figure()
    )
    if cells.regrows:
        plot.add_trace(_line("all parameters that are not 0", cells.total(), 0, "step %{x}: %{y:.1%}"))
    segments = [] if cells.regrows else list(zip(cells.segments, cells.shares(), strict=True))
    for place, ((name, size), share) in enumerate(segments):
        named = style.plain(_HALF.sub(r"\1 \2: ", name))
        plot.add_trace(_line(f"{named} ({size:,})", share, place, f"{named}, step %{{x}}: %{{y:.1%}}"))
    for place, (name, count) in enumerate(architectures.items()):
        trace = _line(name, count, place, f"{name}, step %{{x}}: %{{y}} cells").update(legend="legend2")
        plot.add_trace(trace.update(line_dash="dot" if name.startswith("decoder") else "solid"), 2, 1)
    style.dress(
        plot,
        70 + _ROW * math.ceil(max(1, len(segments)) / 2) + height,
        showlegend=True,
        legend={**_LEGEND, "y": 1.01},
    )
    plot.update_xaxes(rangemode="tozero", title_text=None if architectures else "step")
    plot.update_yaxes(title_text="alive, mean of the cells", tickformat=".0%", range=[0, 1.02])
    if architectures:
        looks = {key: value for key, value in plot.layout.yaxis.to_plotly_json().items() if key in _LOOKS}
        plot.update_layout(legend2={**_LEGEND, "y": (lower + 4) / height}, xaxis2=looks, yaxis2=looks)
        plot.update_xaxes(title_text="step", row=2, col=1)
        plot.update_yaxes(title_text="cells", tickformat=None, range=[0, cells.count * 1.06], row=2, col=1)
    return plot


def _line(name: str, values: np.ndarray, place: int, hover: str) -> go.Scatter:
    return go.Scatter(
        y=_known(values),
        x=list(range(len(values))),
        mode="lines",
        name=name,
        line={"color": style.CYCLE[place % len(style.CYCLE)], "width": 2},
        hovertemplate=f"{hover}<extra></extra>",
    )


def pictures_figure(cells: CellFacts) -> go.Figure:
    """Return inputs, and what the exported members make of them: a row a member, from the test split."""
    members = list(cells.pictures)
    inputs = cells.pictures[members[0]]["inputs"][:_SAMPLES]
    rows = [
        ("input", inputs),
        *((f"candidate {id}", cells.pictures[id]["outputs"][:_SAMPLES]) for id in members),
    ]
    plot = make_subplots(
        rows=len(rows),
        cols=len(inputs),
        horizontal_spacing=0.006,
        vertical_spacing=0.02,
        row_titles=[name for name, _ in rows],
    )
    low, high = float(inputs.min()), float(inputs.max())
    for row, (_, samples) in enumerate(rows, start=1):
        for column, sample in enumerate(samples, start=1):
            plot.add_trace(
                go.Heatmap(
                    z=picture(sample).tolist(),
                    zmin=low,
                    zmax=high,
                    colorscale=_GREY,
                    showscale=False,
                    hoverinfo="skip",
                ),
                row,
                column,
            )
    style.dress(plot, 40 + 92 * len(rows))
    plot.update_xaxes(visible=False)
    plot.update_yaxes(visible=False, autorange="reversed")
    for note in plot.layout.annotations:
        note.update(font={"size": 12, "color": style.SOFT}, textangle=0, xanchor="left", x=1.0)
    return plot.update_layout(margin={"l": 12, "r": 110, "t": 16, "b": 12})


def picture(sample: np.ndarray) -> np.ndarray:
    """Return a sample as a picture ``(height, width)``: its first channel, or its values in the squarest rows
    they fill.
    """
    if sample.ndim >= 2:
        return sample.reshape(-1, *sample.shape[-2:])[0]
    height = next(h for h in range(math.isqrt(sample.size), 0, -1) if sample.size % h == 0)
    return sample.reshape(height, -1)


def _known(values: np.ndarray) -> list[Any]:
    """Plain lists with None, which leaves a gap, for what is not finite."""
    known: list[Any] = values.astype(object).tolist()
    return _replaced(known)


def _replaced(values: list[Any]) -> list[Any]:
    return [
        _replaced(value) if isinstance(value, list) else value if math.isfinite(value) else None
        for value in values
    ]
