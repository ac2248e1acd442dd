"""The other figures: history, kept channels, lineage, operators."""

from __future__ import annotations

from collections import deque

import networkx as nx
import numpy as np
import plotly.graph_objects as go

from evaluators.base import Evaluation
from search.numbers import title
from search.report import style
from search.report.facts import Facts, parts_of

_COLUMNS = 28
_NODES = 350
_OPERATORS = 12


def history_figure(facts: Facts) -> go.Figure:
    """Return the hypervolume over the evaluations."""
    seen, volume = zip(*facts.history, strict=True) if facts.history else ((), ())
    plot = go.Figure(
        go.Scatter(
            x=list(seen),
            y=list(volume),
            mode="lines",
            line={"color": style.TEAL, "width": 2.4, "shape": "hv"},
            fill="tozeroy",
            fillcolor="rgba(11,122,117,0.08)",
            hovertemplate="after %{x:,} evaluations: %{y:.3f}<extra></extra>",
        )
    )
    style.dress(plot, _side_height(facts), showlegend=False)
    plot.update_xaxes(title_text="evaluations", rangemode="tozero")
    return plot.update_yaxes(title_text="hypervolume, share of the box", rangemode="tozero")


def channels_figure(facts: Facts) -> go.Figure:
    """Return what every member of the front keeps of every segment: segments from input to output, members
    from small to large.
    """
    cost = facts.objectives[-1]
    chosen = {final.id for final in facts.members}
    members = _columns(facts, chosen)
    shares = np.array([facts.shares(member.candidate.genome) for member in members]).reshape(len(members), -1)
    sizes = np.array([size for _, size, _ in facts.segments])
    labels = [
        f"{style.plain(name)}  <span style='color:{style.FAINT}'>{size}</span>"
        for name, size, _ in facts.segments
    ]
    columns = [
        f"<b>{m.candidate.id}</b>" if m.candidate.id in chosen else str(m.candidate.id) for m in members
    ]
    counts = np.rint(shares * sizes).astype(int)
    # of masks people want to know how many channels stay, of levels only a share makes sense
    masks = all(choices == 2 for _, _, choices in facts.segments)
    hover = [
        [f"{n} of {size}" for n in row] if masks else [f"{share:.2f}" for share in parts]
        for row, parts, size in zip(counts.T, shares.T, sizes, strict=True)
    ]
    room = masks and len(members) <= _COLUMNS and len(sizes) <= 40
    plot = go.Figure(
        go.Heatmap(
            z=np.round(shares.T, 4).tolist(),
            x=list(range(len(members))),
            y=list(range(len(sizes))),
            customdata=hover,
            text=counts.T.tolist() if room else None,
            texttemplate="%{text}" if room else None,
            textfont={"size": 11},
            zmin=0,
            zmax=1,
            xgap=2,
            ygap=2,
            colorscale=[list(stop) for stop in style.SCALE],
            colorbar={
                "title": {"text": "kept", "side": "top", "font": {"size": 12, "color": style.SOFT}},
                "tickfont": {"size": 12},
                "tickformat": ".0%",
                "thickness": 12,
                "outlinewidth": 0,
                "len": 0.9,
            },
            hovertemplate="%{y}: %{customdata}<extra></extra>",
        )
    )
    style.dress(plot, max(240, 90 + min(len(sizes), 60) * (30 if len(sizes) <= 20 else 20)))
    plot.update_xaxes(
        title_text=f"members, {style.plain(title(cost))} growing; exported in bold",
        tickvals=list(range(len(members))),
        ticktext=columns,
        tickangle=-45 if len(members) > 12 else None,  # plotly turns them where they would overlap
        showgrid=False,
    )
    return plot.update_yaxes(
        tickvals=list(range(len(sizes))), ticktext=labels, autorange="reversed", showgrid=False
    )


def _columns(facts: Facts, chosen: set[int]) -> list[Evaluation]:
    """Members of the front from small to large; where there are too many, the chosen ones and others spread
    over the front.
    """
    cost = facts.objectives[-1]
    members = sorted(facts.front, key=lambda member: member.metrics[cost])
    if len(members) <= _COLUMNS:
        return members
    spread = {round(place) for place in np.linspace(0, len(members) - 1, _COLUMNS - len(chosen))}
    return [
        member for place, member in enumerate(members) if place in spread or member.candidate.id in chosen
    ]


def lineage_figure(facts: Facts) -> go.Figure:
    """Return the ancestors of the exported members (else of members spread over the front): asked when, at
    what cost, by which operator.
    """
    cost = facts.objectives[-1]
    graph = _ancestry(facts)
    values = dict(zip(facts.ids.tolist(), facts.metrics.get(cost, np.zeros(0)).tolist(), strict=True))
    nodes = [node for node in graph if node in values]
    shown = set(nodes)
    front = {member.candidate.id for member in facts.front}
    plot = go.Figure()
    # candidates without metrics (failed ones) have no place to be drawn at; all edges are one trace
    edges = [(a, b) for a, b in graph.edges if a in shown and b in shown]
    plot.add_trace(
        go.Scatter(
            x=[value for a, b in edges for value in (a, b, None)],
            y=[value for a, b in edges for value in (values[a], values[b], None)],
            mode="lines",
            line={"color": "#d5dbe1", "width": 1},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    hover = (
        f"<b>candidate %{{customdata[0]}}</b><br>by %{{customdata[2]}}<br>of "
        f"%{{customdata[1]}}<br>{style.plain(title(cost))} %{{y:.4s}}<extra></extra>"
    )
    # a candidate has the colour of the operator that had the last word on it
    for place, record in enumerate(facts.operators):
        made = [node for node in nodes if parts_of(facts.parents[node][1])[-1] == record.name]
        if made:
            trace = _made(facts, made, front, style.CYCLE[place % len(style.CYCLE)])
            plot.add_trace(
                trace.update(y=[values[n] for n in made], name=style.plain(record.name), hovertemplate=hover)
            )
    style.dress(plot, 400)
    plot.update_xaxes(title_text="candidate (in the order of asking)", rangemode="tozero")
    return plot.update_yaxes(title_text=style.plain(title(cost)), tickformat="~s")


def _made(facts: Facts, nodes: list[int], front: set[int], color: str) -> go.Scatter:
    """Candidates that one operator made; larger and outlined where they are on the front."""
    return go.Scatter(
        x=nodes,
        mode="markers",
        customdata=[
            [node, ", ".join(map(str, parents)) or "none", style.plain(operator.replace("+", " + "))]
            for node, (parents, operator) in ((node, facts.parents[node]) for node in nodes)
        ],
        marker={
            "color": color,
            "size": [12 if node in front else 6 for node in nodes],
            "line": {"width": [1.6 if node in front else 0 for node in nodes], "color": style.INK},
        },
    )


def operators_figure(facts: Facts) -> go.Figure:
    """Return, for every operator, how many of its candidates were on the front when they came in, and how
    many stayed.
    """
    records = [record for record in facts.operators if record.name != "base"][:_OPERATORS][::-1]
    names = [
        f"{style.plain(record.name)}  <span style='color:{style.FAINT}'>{record.asked:,}</span>"
        for record in records
    ]
    plot = go.Figure()
    for label, color, counts in (
        ("were on the front when they came in", style.TEAL_SOFT, [record.joined for record in records]),
        ("are on it still", style.TEAL, [record.stayed for record in records]),
    ):
        shares = [count / record.asked for count, record in zip(counts, records, strict=True)]
        plot.add_trace(
            go.Bar(
                y=names,
                x=shares,
                name=label,
                orientation="h",
                marker={"color": color},
                text=[f"{100 * value:.1f} %" for value in shares],
                textposition="outside",
                textfont={"size": 11, "color": style.SOFT},
                cliponaxis=False,
                customdata=counts,
                hovertemplate="%{y}: %{customdata} candidates<extra></extra>",
            )
        )
    style.dress(plot, _side_height(facts), barmode="group", bargap=0.35, legend_traceorder="reversed")
    longest = max((record.joined / record.asked for record in records), default=1.0) or 1.0
    plot.update_xaxes(
        tickformat=".0%", range=[0, 1.2 * longest], title_text="share of the operator's candidates"
    )
    return plot.update_yaxes(showgrid=False)


def objectives_figure(facts: Facts) -> go.Figure:
    """Return the front over all objectives as parallel coordinates, for three and more."""
    cost = facts.objectives[-1]
    dimensions = [
        {"label": style.plain(title(name)), "values": [member.metrics[name] for member in facts.front]}
        for name in facts.objectives
    ]
    lines = {
        "color": [member.metrics[cost] for member in facts.front],
        "colorscale": [list(stop) for stop in style.SCALE[1:]],
    }
    lines["colorscale"] = [[0, style.TEAL_SOFT], [1, style.TEAL]]
    return style.dress(
        go.Figure(go.Parcoords(line=lines, dimensions=dimensions)),
        360,
        margin={"l": 60, "r": 60, "t": 50, "b": 20},
    )


def _ancestry(facts: Facts) -> nx.DiGraph:
    """The graph of parents to children, from the members that matter back, the latest generations first, as
    far as it can be drawn.
    """
    roots = [final.id for final in facts.members]
    if not roots:
        roots = (
            [facts.front[round(place)].candidate.id for place in np.linspace(0, len(facts.front) - 1, 5)]
            if facts.front
            else []
        )
    graph: nx.DiGraph = nx.DiGraph()
    graph.add_nodes_from(roots)
    waiting = deque(dict.fromkeys(roots))
    while waiting and len(graph) < _NODES:
        child = waiting.popleft()
        for parent in facts.parents.get(child, ((), ""))[0]:
            if parent not in graph:
                waiting.append(parent)
            graph.add_edge(parent, child)
    return graph


def _side_height(facts: Facts) -> int:
    """Height of the two figures side by side: room for the operators."""
    return max(330, 90 + 42 * min(len(facts.operators), _OPERATORS))
