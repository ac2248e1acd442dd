"""The figures of a hyper-parameter search: learning curves, parameters, and which of them matter."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import plotly.graph_objects as go
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    json_to_distribution,
)
from optuna.trial import TrialState, create_trial

from evaluators.base import State
from search.numbers import setting, title
from search.report import style
from search.report.facts import Facts
from search.report.trials import TrialRow, best_first, short
from search.tuning.sampling import quiet

_CURVES = 400
"""Most curves: beyond, the stopped ones are thinned, and the legend says so."""
_AXES = 12
"""Most parameters of the parallel coordinates: the ones that matter most."""
_KINDS = (
    ("paused or stopped", style.AMBER, 1.0, 0.45),
    ("diverged", style.ROSE, 1.2, 0.8),
    ("to the end", style.TEAL_SOFT, 1.4, 0.8),
    ("the best", style.TEAL, 3.2, 1.0),
)


def curves_figure(facts: Facts) -> go.Figure:
    """Return what was watched over the epochs: a line is a trial, and ends where the trial was stopped."""
    plot = go.Figure()
    kinds = _by_kind(facts)
    for name, color, width, opacity in _KINDS:
        rows = kinds[name]
        if not rows:
            continue
        label = name if name == "the best" else f"{name} ({len(rows):,})"
        if len(rows) > _CURVES:
            rows = [rows[place] for place in np.linspace(0, len(rows) - 1, _CURVES).round().astype(int)]
            label = f"{name} ({_CURVES:,} of {len(kinds[name]):,} shown)"
        lines = _curves(rows)
        plot.add_trace(lines.update(line={"color": color, "width": width}, opacity=opacity, name=label))
        ends = [row for row in rows if row.curve and name in ("paused or stopped", "diverged")]
        symbol = "x" if name == "diverged" else "circle"
        plot.add_trace(_ends(ends).update(marker={"color": color, "size": 5, "symbol": symbol}))
    style.dress(plot, 430)
    plot.update_xaxes(title_text="step (epoch)", rangemode="tozero")
    plot.update_yaxes(title_text=style.plain(title(facts.about.monitor or facts.objectives[0])))
    focus = _focus(facts)
    return plot.update_yaxes(range=focus) if focus else plot


def _by_kind(facts: Facts) -> dict[str, list[TrialRow]]:
    """Trials that there is something to draw of, by what became of them."""
    best = next((row.id for row in best_first(facts.trials, facts.about)), None)
    kinds: dict[str, list[TrialRow]] = {name: [] for name, *_ in _KINDS}
    for row in facts.trials:
        if row.curve or row.diverged:
            kinds[_kind(row, best)].append(row)
    return kinds


def _curves(rows: Sequence[TrialRow]) -> go.Scatter:
    """The curves of several trials as one trace with gaps, which is drawn sooner than one trace each."""
    points = [point for row in rows for point in (*((row.id, *at) for at in row.curve), (None, None, None))]
    return go.Scatter(
        x=[step for _, step, _ in points],
        y=[_finite(found) for *_, found in points],
        customdata=[id for id, *_ in points],
        mode="lines",
        hovertemplate="<b>trial %{customdata}</b><br>step %{x}: %{y:.4g}<extra></extra>",
    )


def _ends(rows: Sequence[TrialRow]) -> go.Scatter:
    """Marks where curves end, with the reason."""
    return go.Scatter(
        x=[row.curve[-1][0] for row in rows],
        y=[_finite(row.curve[-1][1]) for row in rows],
        customdata=[[row.id, style.plain(row.evaluation.reason or "stopped")] for row in rows],
        mode="markers",
        showlegend=False,
        hovertemplate="<b>trial %{customdata[0]}</b><br>%{customdata[1]}<extra></extra>",
    )


def _finite(value: float | None) -> float | None:
    """None, which leaves a gap, for what is not finite."""
    return value if value is not None and math.isfinite(value) else None


def importances(facts: Facts) -> dict[str, float]:
    """Return by how much each parameter explains the first objective among the trials that came to their end
    (fANOVA, by Optuna).

    Empty where fewer than four did, or where Optuna finds nothing to compare.
    """
    rows = [row for row in facts.trials if row.evaluation.state is State.COMPLETE]
    if len(rows) < 4:
        return {}
    metric = facts.objectives[0]
    with quiet():
        study = optuna.create_study(
            direction="maximize" if facts.about.objectives[0]["maximise"] else "minimize"
        )
    declared = distributions(facts)
    for row in rows:
        trial = create_trial(
            state=TrialState.COMPLETE,
            value=row.evaluation.metrics[metric],
            params=row.parameters,
            distributions={name: declared[name] for name in row.parameters},
        )
        study.add_trial(trial)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    except (ValueError, RuntimeError):
        return {}


def importances_figure(found: dict[str, float]) -> go.Figure:
    """Return the importances as bars, the largest on top."""
    names = list(found)[::-1]
    plot = go.Figure(
        go.Bar(
            x=[found[name] for name in names],
            y=[style.plain(name) for name in names],
            orientation="h",
            marker={"color": style.TEAL},
            text=[f"{100 * found[name]:.0f} %" for name in names],
            textposition="outside",
            textfont={"size": 11, "color": style.SOFT},
            cliponaxis=False,
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        )
    )
    style.dress(plot, max(220, 90 + 34 * len(names)), showlegend=False)
    plot.update_xaxes(
        tickformat=".0%",
        range=[0, 1.15 * max(found.values(), default=1.0)],
        title_text="share of the variance explained",
    )
    return plot.update_yaxes(showgrid=False)


def parameters_figure(facts: Facts, order: Sequence[str] = ()) -> go.Figure:
    """Return parameters and first objective of the trials that came to their end, as parallel coordinates.

    Args:
        order: parameters that matter, the most important first; others follow.
    """
    rows = best_first(facts.trials, facts.about)[::-1]
    metric = facts.objectives[0]
    declared = distributions(facts)
    names = [*order, *(name for name in declared if name not in order)][:_AXES]
    goal = [row.evaluation.metrics[metric] for row in rows]
    worst, least = max(goal), min(goal)
    axes = [_axis(name, declared[name], [row.parameters.get(name) for row in rows]) for name in names]
    axes.append({"label": style.plain(title(metric)), "values": goal})
    colors: list[tuple[float, str]] = [(0, style.TEAL), (0.35, style.TEAL_SOFT), (1, style.LINE)]
    if facts.about.objectives[0]["maximise"]:
        colors = [(1 - at, color) for at, color in reversed(colors)]
    line: dict[str, Any] = {
        "color": goal,
        "colorscale": colors,
        "cmin": least,
        "cmax": worst if worst > least else least + 1,
    }
    return style.dress(
        go.Figure(go.Parcoords(line=line, dimensions=axes)), 380, margin={"l": 70, "r": 70, "t": 50, "b": 24}
    )


def distributions(facts: Facts) -> dict[str, BaseDistribution]:
    """Return the distributions of the parameters by name."""
    return {name: json_to_distribution(text) for name, text in facts.about.parameters.items()}


def _kind(row: TrialRow, best: int | None) -> str:
    if row.id == best:
        return "the best"
    if row.diverged:
        return "diverged"
    return "to the end" if row.evaluation.state is State.COMPLETE else "paused or stopped"


def _axis(name: str, distribution: BaseDistribution, found: list[Any]) -> dict[str, Any]:
    """One parameter: a logarithmic one by its logarithm, a choice by its place; what is not active lies at a
    place of its own, below.
    """
    if isinstance(distribution, CategoricalDistribution):
        # None is a choice of its own where it is among them, and else a parameter that is not active
        is_choice = None in distribution.choices
        places = [distribution.to_internal_repr(x) if x is not None or is_choice else None for x in found]
        labels = list(map(str, distribution.choices))
        ticks = [float(place) for place in range(len(labels))]
    else:
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        scale = math.log10 if distribution.log else float
        places = [None if x is None else scale(x) for x in found]
        ticks = np.linspace(scale(distribution.low), scale(distribution.high), 5).tolist()
        values = [10**tick if distribution.log else tick for tick in ticks]
        labels = [setting(float(f"{at:.3g}")) for at in values]
    if None in places:  # below the lowest tick, by an eighth of the axis
        below = ticks[0] - 0.12 * ((ticks[-1] - ticks[0]) or 1)
        places = [below if place is None else place for place in places]
        ticks, labels = [below, *ticks], ["-", *labels]
    return {
        "label": style.plain(short(name)),
        "values": places,
        "tickvals": ticks,
        "ticktext": [style.plain(label) for label in labels],
        "range": [min(ticks), max(ticks)],
    }


def _focus(facts: Facts) -> list[float] | None:
    """The range that a person would look at: first steps, and trials that leave it upwards, would stretch the
    axis.
    """
    values = np.array([found for row in facts.trials for _, found in row.curve if math.isfinite(found)])
    if len(values) < 8:
        return None
    low, middle, high = float(values.min()), float(np.quantile(values, 0.85)), float(values.max())
    return (
        [low - 0.05 * (middle - low), middle + 0.15 * (middle - low)]
        if high - low > 2.5 * (middle - low) > 0
        else None
    )
