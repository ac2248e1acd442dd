"""The table at the end of a run: the base model and the finished members of the front."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from evaluators.cost.counting import COSTS
from search.numbers import number, share, title
from search.record.about import About
from search.record.finals import BASE, Final

_WIDE = 140


def table(finals: Sequence[Final], about: About, wide: bool = True) -> Table:
    """Return the table: error before and after fine-tuning on the test split, and cost, as requested and as
    realised.

    Args:
        finals: the base model and the members, as :meth:`search.finish.finish.Finish.run` returns them.
        about: the run.
        wide: whether there is room to show every cost as requested and as realised, and not only the one that
            the search was about.
    """
    paired = COSTS if wide else (main_cost(about),)
    measured, tuned = tested_metrics(finals, about), was_tuned(finals)
    rows = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        header_style="bold",
        title_justify="left",
        title_style="bold",
        caption_justify="left",
    )
    rows.add_column("model", no_wrap=True)
    names: list[str] = []  # a newline stands between the two lines of a column's head
    for metric in measured:
        names += [f"test {title(metric)}\nbefore", "\ntuned"] if tuned else [f"test\n{title(metric)}"]
    for cost in COSTS:
        names += [f"{title(cost)}\nrequested", "\nrealised"] if cost in paired else [title(cost)]
    for name in (*names, "share\nof base", "ms\ntorch", "ms\nONNX"):
        rows.add_column(escape(name), justify="right", no_wrap=True)
    base = next((final for final in finals if final.id == BASE), None)
    for final in finals:
        rows.add_row(
            *_cells(final, base, measured, tuned, paired, about), style="dim" if final.reason else ""
        )
    if notes := _notes(finals):
        rows.caption = Text("\n".join(notes))
    return rows


def _notes(finals: Sequence[Final]) -> list[str]:
    """What could not be finished, limits that are not met, and why there is no ONNX file."""
    notes = [f"{final.name}: {final.reason}" for final in finals if final.reason]
    if earlier := earlier_words(finals):
        notes.append(earlier)
    notes += [
        f"{final.name}: {limit.text} not met ({number(limit.value, limit.text.split()[0])})"
        for final in finals
        for limit in final.limits
        if not limit.met
    ]
    if not was_tuned(finals):
        notes.append("measured as the search left them: finish.epochs is 0, nothing was fine-tuned")
    return notes + sorted(
        {f"no ONNX: {final.onnx['missing']}" for final in finals if "missing" in final.onnx}
    )


def earlier_words(finals: Sequence[Final]) -> str:
    """Say which finished models are of earlier calls; empty where none is."""
    names = [final.name for final in finals if final.earlier]
    return (
        f"of earlier calls: {', '.join(names)}; on the search split no finished model is better in everything"
        if names
        else ""
    )


def show(finals: Sequence[Final], about: About, console: Console | None = None) -> None:
    """Print the table; in plain text and whole where there is no terminal."""
    console = console or Console()
    if console.is_terminal:
        console.print(table(finals, about, console.width >= _WIDE))
    else:
        console.file.write(text(finals, about))


def text(finals: Sequence[Final], about: About) -> str:
    """Return the table in plain text, as wide as it is."""
    page = Console(
        file=io.StringIO(), width=400, color_system=None, force_terminal=False, legacy_windows=False
    )
    page.print(table(finals, about))
    assert isinstance(page.file, io.StringIO)
    return "\n".join(line.rstrip() for line in page.file.getvalue().splitlines()) + "\n"


def tested_metrics(finals: Sequence[Final], about: About) -> list[str]:
    """Return the metrics that were tested and that people look at: objectives and constraints among them,
    else all but the loss.
    """
    tested = list(
        dict.fromkeys(
            name.removeprefix("test_")
            for final in finals
            for name in final.test
            if not name.endswith("_before")
        )
    )
    aims = {goal["metric"] for goal in (*about.objectives, *about.constraints)}
    return [name for name in tested if name in aims] or [name for name in tested if name != "loss"] or tested


def was_tuned(finals: Sequence[Final]) -> bool:
    """Whether any of the models was fine-tuned, so that there is a before."""
    return not finals or any(final.was_tuned for final in finals)


def main_cost(about: About) -> str:
    """Return the cost that the search was about: an objective or a constraint on it, else MACs."""
    named = [goal["metric"] for goal in (*about.objectives, *about.constraints)]
    return next((name for name in named if name in COSTS), "macs")


def _cells(
    final: Final,
    base: Final | None,
    measured: Sequence[str],
    tuned: bool,
    paired: Sequence[str],
    about: About,
) -> list[str]:
    cells = [final.name]
    for metric in measured:
        before = [_cell(final.test.get(f"test_{metric}_before"), metric)] if tuned else []
        cells += [*before, _cell(final.test.get(f"test_{metric}"), metric)]
    for cost in COSTS:
        cells += [_cell(final.requested.get(cost), cost)] if cost in paired else []
        cells.append(_cell(final.realised.get(cost), cost))
    main = main_cost(about)
    whole = base.realised.get(main) if base is not None else about.base.get(main)
    cells.append(share(final.realised[main], whole) if main in final.realised else "")
    latencies = [final.realised.get(name) for name in ("latency_ms", "onnx_latency_ms")]
    return [*cells, *("" if value is None else f"{value:.3f}" for value in latencies)]


def _cell(value: float | None, name: str) -> str:
    return "" if value is None else number(value, name)
