"""The table at the end of a run: which model to take, the base model, and the finished members."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from rich import box
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from evaluators.cost.counting import COSTS
from search.numbers import number, share, title
from search.record.about import About
from search.record.finals import BASE, Final
from search.report.advice import Advice, advise, main_cost, main_quality


@dataclass(frozen=True)
class _Columns:
    """What the columns show.

    Attributes:
        metrics: on the test split.
        costs: as counted on the exported model; the size first.
        main: the cost that is shown as a share of the base model's, too.
        whole: its value of the base model.
    """

    metrics: list[str]
    costs: list[str]
    main: str
    whole: float | None


def table(finals: Sequence[Final], about: About, advice: Advice | None = None) -> Table:
    """Return the table, which fits 80 columns: test figures, size, MACs, latency and folder of every model.

    Args:
        finals: the base model and the members, as :meth:`search.finish.finish.Finish.run` returns them.
        about: the run.
        advice: whose model stands out.
    """
    shown = _columns(finals, about)
    rows = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, header_style="bold")
    rows.add_column("model")  # it and the folder give way where there is little room, figures never do
    names = [f"test {title(metric)}" for metric in shown.metrics]
    names += ["size" if cost == "bytes" else title(cost) for cost in shown.costs]
    for name in (*names, "latency, ms"):
        rows.add_column(escape("\n".join(name.split())), justify="right", no_wrap=True)
    rows.add_column("folder", overflow="fold")
    for final in finals:
        style = "dim" if final.reason else "bold" if advice is not None and final == advice.final else ""
        rows.add_row(*_cells(final, shown), style=style)
        if final.id == BASE and was_tuned(finals) and not final.reason:
            rows.add_row("base model, tuned", *_tests(final, shown, ""))
        if "file" in final.int8:
            rows.add_row(f"{final.name}, int8", *_of_int8(final, shown), style=style)
    return rows


def _columns(finals: Sequence[Final], about: About) -> _Columns:
    quality, tested = main_quality(finals, about), tested_metrics(finals, about)
    aims = [goal["metric"] for goal in about.objectives]
    # what the search looked at in place of the first one is for the report
    others = [name for name in tested if name in aims and name not in (quality, aims[0])]
    main = main_cost(about)
    base = next((final for final in finals if final.id == BASE), None)
    return _Columns(
        [quality, *others] if quality else tested[:2],
        ["params" if main == "params" else "bytes", "macs"],
        main,
        base.realised.get(main) if base is not None else about.base.get(main),
    )


def _cells(final: Final, shown: _Columns) -> list[str]:
    when = "_before" if final.id == BASE and final.was_tuned else ""
    cells = [final.name, *_tests(final, shown, when)]
    for cost in shown.costs:
        text = _cell(final.realised.get(cost), cost)
        part = share(final.realised[cost], shown.whole) if text and cost == shown.main else ""
        cells.append(f"{text} ({part})" if part and final.id != BASE else text)
    latency = _cell(final.realised.get("latency_ms"), "latency_ms").removesuffix(" ms")
    return [*cells, latency, escape(final.folder)]


def _tests(final: Final, shown: _Columns, when: str) -> list[str]:
    return [_cell(final.test.get(f"test_{metric}{when}"), metric) for metric in shown.metrics]


def _of_int8(final: Final, shown: _Columns) -> list[str]:
    """The cells of an int8 file: of its costs the size, and its latency in onnxruntime."""
    known = final.int8
    tests = [_cell(known["test"].get(f"test_{metric}"), metric) for metric in shown.metrics]
    costs = [_cell(known["bytes"], cost) if cost == "bytes" else "" for cost in shown.costs]
    return [*tests, *costs, _cell(known["latency_ms"], "latency_ms").removesuffix(" ms")]


def notes(finals: Sequence[Final]) -> list[str]:
    """What could not be finished, limits that are not met, costs that came out otherwise than the search
    thought, and why there is no ONNX file.
    """
    found = [f"{final.name}: {final.reason}" for final in finals if final.reason]
    if earlier := earlier_words(finals):
        found.append(earlier)
    found += [
        f"{final.name}: {limit.text} not met ({number(limit.value, limit.text.split()[0])})"
        for final in finals
        for limit in final.limits
        if not limit.met
    ]
    found += [
        f"{final.name}: {title(cost)} {number(final.requested[cost], cost)} requested, "
        f"{number(final.realised[cost], cost)} realised"
        for final in finals
        for cost in COSTS
        if realised_otherwise(final, cost)
    ]
    if words := _prediction_words(finals):
        found.append(words)
    if not was_tuned(finals):
        found.append("measured as the search left them: finish.epochs is 0, nothing was fine-tuned")
    found += [f"{final.name}: {words}" for final in finals if (words := int8_words(final))]
    return found + sorted(
        {f"no ONNX: {final.onnx['missing']}" for final in finals if "missing" in final.onnx}
    )


def _prediction_words(finals: Sequence[Final]) -> str:
    """Say how far predicted latency is off what exported models take; empty where none was predicted."""
    off = [
        abs(final.requested["latency_ms"] / final.realised["latency_ms"] - 1)
        for final in finals
        if "latency_ms" in final.requested and "latency_ms" in final.realised
    ]
    if not off:
        return ""
    middle, most = f"{median(off):.0%}", f"{max(off):.0%}"
    return f"latency was predicted within {middle} (median) of what it is here, at most {most} off"


def int8_words(final: Final) -> str:
    """Say how fast and large an int8 file is beside its float file and which layers stay float, or why there
    is none; empty where none was asked for.
    """
    known = final.int8
    if "missing" in known:
        return f"no int8 file: {known['missing']}"
    if not known:
        return ""
    files = [number(known[name], "latency_ms") for name in ("latency_ms", "float_latency_ms")]
    sizes = [number(known[name], "bytes") for name in ("bytes", "float_bytes")]
    kept = known["kept_float"]
    slower = known["latency_ms"] > known["float_latency_ms"]
    return (
        f"int8 in onnxruntime: {files[0]} and {sizes[0]}, its float file {files[1]} and {sizes[1]}"
        + ("; it is slower than the float file" if slower else "")
        + ("; weights of 7 bits, since the processor has no VNNI" if known["reduce_range"] else "")
        + (f"; {len(kept)} of {known['layers']} layers stay float: {', '.join(kept)}" if kept else "")
    )


def realised_otherwise(final: Final, cost: str) -> bool:
    """Whether the exported model costs something else than the search computed."""
    requested, realised = final.requested.get(cost), final.realised.get(cost)
    if requested is None or realised is None:
        return False
    return abs(requested - realised) > 1e-6 * max(1.0, abs(realised))


def earlier_words(finals: Sequence[Final]) -> str:
    """Say which finished models are of earlier calls; empty where none is."""
    names = [final.name for final in finals if final.earlier]
    return (
        f"of earlier calls: {', '.join(names)}; on the search split no finished model is better in everything"
        if names
        else ""
    )


def whole_table(finals: Sequence[Final], about: About) -> Group:
    """Return the table between the line that says which model to take and what there is to be noted."""
    advice = advise(finals, about)
    above = [Text(f"\n{advice.words}", style="bold")] if advice is not None else []
    below = notes(finals)
    return Group(*above, table(finals, about, advice), *([Text("\n".join(below))] if below else []))


def show(finals: Sequence[Final], about: About, console: Console | None = None) -> None:
    """Print the table; in plain text and whole where there is no terminal."""
    console = console or Console()
    if console.is_terminal:
        console.print(whole_table(finals, about))
    else:
        console.file.write(text(finals, about))


def text(finals: Sequence[Final], about: About) -> str:
    """Return the table in plain text, as wide as it is."""
    page = Console(
        file=io.StringIO(), width=400, color_system=None, force_terminal=False, legacy_windows=False
    )
    page.print(whole_table(finals, about))
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


def _cell(value: float | None, name: str) -> str:
    return "" if value is None else number(value, name)
