"""The figures of a search of cells: the cell as a graph, what became of the operations, and what an epoch
cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from search.report import style
from search.report.supernet_facts import Course
from spaces.cells import genotype as text

_COLUMNS = 4
_EDGES = 28
"""Most edges whose importances are drawn: those of the cell that was found come first."""


def colours(operations: Sequence[str]) -> dict[str, str]:
    """Return a colour for every operation, the same in all figures."""
    return {name: style.CYCLE[place % len(style.CYCLE)] for place, name in enumerate(operations)}


def architecture_figure(course: Course) -> go.Figure:
    """Return the cell of each kind as a graph, from its inputs on the left to its output on the right."""
    cells = text.read(course.genotype)
    colour = colours(course.operations)
    plot = make_subplots(
        rows=len(cells),
        cols=1,
        subplot_titles=[style.plain(kind) for kind in cells] if len(cells) > 1 else None,
        vertical_spacing=0.12,
    )
    for row, edges in enumerate(cells.values(), start=1):
        places = layout(list(edges))
        last = max(x for x, _ in places.values()) + 1
        nodes = [node for node in places if any(target == node for _, target in edges)]
        axis = "" if row == 1 else str(row)
        for (source, target), operation in edges.items():
            _arrow(plot, places[source], places[target], axis, operation, colour.get(operation, style.INK))
        for node in nodes:
            _arrow(plot, places[node], (last, 0.0), axis, "", style.FAINT)
        plot.add_trace(_nodes({**places, "out": (last, 0.0)}, nodes), row, 1)
    style.dress(plot, 60 + 300 * len(cells), showlegend=False)
    return plot.update_xaxes(visible=False).update_yaxes(visible=False)


def _nodes(places: Mapping[str, tuple[float, float]], inner: Sequence[str]) -> go.Scatter:
    """The nodes of a graph; inputs and output are paler than the inner ones."""
    return go.Scatter(
        x=[x for x, _ in places.values()],
        y=[y for _, y in places.values()],
        text=[style.plain(name) for name in places],
        mode="markers+text",
        textposition="middle center",
        textfont={"color": style.PAPER, "size": 12},
        marker={"size": 30, "color": [style.INK if name in inner else style.SOFT for name in places]},
        hoverinfo="skip",
        showlegend=False,
    )


def layout(edges: Sequence[tuple[str, str]]) -> dict[str, tuple[float, float]]:
    """Return where every node stands: the inputs at 0, the others one behind another, in turns above and
    below the middle.
    """
    targets = list(dict.fromkeys(target for _, target in edges))
    inputs = list(dict.fromkeys(source for source, _ in edges if source not in targets))
    heights = np.linspace(0.8, -0.8, len(inputs)) if len(inputs) > 1 else [0.0]
    places = {name: (0.0, float(y)) for name, y in zip(inputs, heights, strict=True)}
    for number, node in enumerate(targets):
        places[node] = (1.0 + number, (0.55 if number % 2 == 0 else -0.55) * (1 + 0.25 * (number // 2)))
    return places


def _arrow(
    plot: go.Figure, start: tuple[float, float], end: tuple[float, float], axis: str, words: str, colour: str
) -> None:
    place = {"axref": f"x{axis}", "ayref": f"y{axis}", "xref": f"x{axis}", "yref": f"y{axis}"}
    plot.add_annotation(
        x=end[0],
        y=end[1],
        ax=start[0],
        ay=start[1],
        **place,
        text="",
        showarrow=True,
        arrowhead=2,
        arrowwidth=1.8,
        arrowcolor=colour,
        standoff=16,
        startstandoff=16,
    )
    if words:
        share = 0.42
        plot.add_annotation(
            x=start[0] + share * (end[0] - start[0]),
            y=start[1] + share * (end[1] - start[1]),
            xref=f"x{axis}",
            yref=f"y{axis}",
            text=style.plain(words),
            showarrow=False,
            font={"size": 11, "color": colour},
            bgcolor="rgba(255,255,255,.9)",
        )


def importances_figure(course: Course) -> go.Figure:
    """Return the importance of every operation over the epochs, an edge a panel; a line ends where its
    operation went.
    """
    chosen = {f"{kind}/{s}-{t}" for kind, edges in text.read(course.genotype).items() for s, t in edges}
    shown = sorted(course.edges, key=lambda edge: edge not in chosen)[:_EDGES]
    rows = math.ceil(len(shown) / _COLUMNS)
    titles = [f"<b>{style.plain(edge)}</b>" if edge in chosen else style.plain(edge) for edge in shown]
    plot = make_subplots(
        rows=rows,
        cols=_COLUMNS,
        subplot_titles=titles,
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.02,
        vertical_spacing=0.3 / max(rows, 2),
    )
    colour = colours(course.operations)
    gone = {(edge, name): epoch for epoch, edge, name in course.removed}
    for number, edge in enumerate(shown):
        row, column = number // _COLUMNS + 1, number % _COLUMNS + 1
        table = course.importances[:, course.edges.index(edge)]
        for place, name in enumerate(course.operations):
            values = table[:, place]
            known = np.flatnonzero(np.isfinite(values))
            if not len(known):
                continue
            line = {"color": colour[name], "width": 1.6}
            plot.add_trace(
                go.Scatter(
                    x=(known + 1).tolist(),
                    y=values[known].astype(float).tolist(),
                    mode="lines",
                    line=line,
                    name=style.plain(name),
                    legendgroup=style.plain(name),
                    showlegend=number == 0,
                    hovertemplate=f"{style.plain(name)}, epoch %{{x}}: %{{y:.3f}}<extra></extra>",
                ),
                row,
                column,
            )
            if (edge, name) in gone:
                plot.add_trace(
                    go.Scatter(
                        x=[gone[edge, name]],
                        y=[float(values[known[-1]])],
                        mode="markers",
                        legendgroup=style.plain(name),
                        showlegend=False,
                        marker={"symbol": "x", "size": 6, "color": colour[name]},
                        hovertemplate=f"{style.plain(name)} goes after epoch %{{x}}<extra></extra>",
                    ),
                    row,
                    column,
                )
    style.dress(plot, 110 + 150 * rows)
    for note in plot.layout.annotations:
        note.update(font={"size": 11, "color": style.SOFT})
    plot.update_xaxes(range=[0.5, course.epochs + 0.5], gridcolor=style.LINE, title_text=None)
    plot.update_yaxes(range=[0, 1.04], gridcolor=style.LINE, title_text=None)
    return plot.update_layout(margin={"t": 64})


def divergences_figure(course: Course) -> go.Figure:
    """Return the Jensen-Shannon divergence of every edge on a logarithmic scale; marks where
    operations went.
    """
    plot = go.Figure()
    for number, edge in enumerate(course.edges):
        values = course.divergences[:, number]
        known = np.flatnonzero(np.isfinite(values) & (values > 0))
        if not len(known):
            continue
        colour = style.CYCLE[number % len(style.CYCLE)]
        points = {"x": (known + 1).tolist(), "y": values[known].astype(float).tolist()}
        plot.add_trace(
            go.Scatter(
                **points,
                mode="lines",
                line={"color": colour, "width": 1.3},
                name=style.plain(edge),
                opacity=0.85,
                hovertemplate=f"{style.plain(edge)}, epoch %{{x}}: %{{y:.1e}} bits<extra></extra>",
            )
        )
        epochs = sorted(
            {epoch for epoch, where, _ in course.removed if where == edge} & {int(k) + 1 for k in known}
        )
        if epochs:
            heights = [float(values[epoch - 1]) for epoch in epochs]
            hover = f"{style.plain(edge)} loses operations after epoch %{{x}}<extra></extra>"
            mark = {"symbol": "x", "size": 8, "color": colour}
            plot.add_trace(
                go.Scatter(
                    x=epochs, y=heights, mode="markers", marker=mark, showlegend=False, hovertemplate=hover
                )
            )
    style.dress(plot, 400, showlegend=len(course.edges) <= 14)
    plot.update_xaxes(title_text="epoch", range=[0.5, course.epochs + 0.5])
    return plot.update_yaxes(title_text="JS divergence, bits", type="log", exponentformat="power")


def cost_figure(courses: Sequence[Course], epochs: int) -> go.Figure:
    """Return what an epoch of each search cost, as a share of one with all operations: multiply-accumulates,
    and memory of a step.
    """
    plot = go.Figure()
    for number, course in enumerate(courses):
        colour = style.CYCLE[number % len(style.CYCLE)]
        for values, dash, what in ((course.macs, "solid", "MACs"), (course.memory, "dot", "memory")):
            shares = values / max(values.max(), 1e-12)
            plot.add_trace(
                go.Scatter(
                    x=list(range(1, course.epochs + 1)),
                    y=shares.tolist(),
                    mode="lines",
                    name=f"candidate {course.id}, {what}",
                    line={"color": colour, "width": 2, "dash": dash, "shape": "hv"},
                    hovertemplate=f"{what}, epoch %{{x}}: %{{y:.0%}}<extra></extra>",
                )
            )
    style.dress(plot, 400)
    plot.update_xaxes(
        title_text="epoch", range=[0.5, max(epochs, *(course.epochs for course in courses)) + 0.5]
    )
    return plot.update_yaxes(title_text="of the full supernet", tickformat=".0%", range=[0, 1.06])


def cases_figure(course: Course) -> go.Figure:
    """Return the Dice overlap of every case and structure without cells and with them, as boxes with all
    points.
    """
    plot = go.Figure()
    for name, colour in (("before", style.FAINT), ("after", style.TEAL)):
        table = course.cases[name]
        labels = np.repeat([f"structure {number + 1}" for number in range(table.shape[1])], len(table))
        plot.add_trace(
            go.Box(
                x=labels.tolist(),
                y=table.T.ravel().astype(float).tolist(),
                name="without cells" if name == "before" else "with cells",
                marker={"color": colour, "size": 3},
                line={"width": 1.4},
                boxpoints="all",
                jitter=0.4,
                pointpos=0,
            )
        )
    style.dress(plot, 400, boxmode="group")
    return plot.update_yaxes(title_text="Dice overlap")
