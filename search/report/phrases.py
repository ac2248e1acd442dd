"""The parts of the report that are words and numbers: headline, tables, settings."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from html import escape
from pathlib import Path
from typing import Any

from evaluators.base import State
from evaluators.cost.counting import COSTS
from search.ending import Ending, EndingKind
from search.numbers import bound, number, setting, title
from search.record.directory import told_without_secrets
from search.record.finals import Final
from search.report.facts import Facts
from search.report.ladder_facts import rungs
from search.report.page import card, rows
from search.report.table import was_tuned
from search.report.trials import SHOWN, TrialRow, best_first, counted, short
from spaces.redaction import redacted_yaml

_ENDS = {
    EndingKind.EVALUATIONS: "the budget of evaluations was spent",
    EndingKind.SECONDS: "the time was up",
    EndingKind.STALL: "the front had stopped improving",
    EndingKind.EPOCHS: "the budget of training was spent",
    EndingKind.TARGET: "the target was reached",
    EndingKind.EXHAUSTED: "there was nothing left to ask",
    EndingKind.STEPS: "all cells had done their steps",
    EndingKind.INTERRUPTED: "it was interrupted",
    EndingKind.FAILURES: "most of the first ones had failed",
    EndingKind.DISK_FULL: "the disk was full",
}


def sentence(facts: Facts) -> str:
    """Say in plain words what the run did."""
    if facts.trials:
        return _tuned(facts)
    bounds = ", ".join(bound(c) for c in facts.about.constraints)
    parts = [
        f"A search for {_aims(facts)}{f', with {bounds}' if bounds else ''}. {facts.evaluated:,} candidates "
        f"were evaluated"
    ]
    if facts.ending:
        parts.append(f", until {_ended(facts.ending)}")
    members = len(facts.front)
    parts.append(f"; {members} of them {'form' if members != 1 else 'is'} the front.")
    if words := facts.race.sentence:
        parts.append(f" {words[0].upper()}{words[1:]}.")
    if facts.members:
        done = (
            "fine-tuned, checked and exported" if was_tuned(facts.finals) else "checked and exported as found"
        )
        parts.append(f" {len(facts.members)} were {done}, and tested on data that the search never saw.")
    return "".join(parts)


def _aims(facts: Facts) -> str:
    goals = facts.about.objectives
    return " and ".join(("most " if o["maximise"] else "least ") + title(o["metric"]) for o in goals)


def _ended(ending: Ending) -> str:
    words = _ENDS[ending.kind] + (f" ({ending.detail})" if ending.detail else "")
    return words + (f"; {ending.advice}" if ending.advice else "")


def _tuned(facts: Facts) -> str:
    """Say in plain words what a hyper-parameter search did."""
    parts = [f"A search for the hyper-parameters of {_aims(facts)}. {counted(facts.trials)}"]
    if facts.ending:
        parts.append(f"; it went on until {_ended(facts.ending)}")
    steps, whole = _steps(facts)
    if whole > steps:
        parts.append(
            f". {steps:,} epochs were trained, where all trials trained to the end would have taken {whole:,}"
        )
    return "".join([*parts, "."])


def _steps(facts: Facts) -> tuple[int, int]:
    """Steps that were trained, and those that training every trial to the end would have taken; a trial that
    went on under another number does not count twice.
    """
    goes_on = {parent for row in facts.trials for parent in row.evaluation.candidate.parents}
    rows = [row for row in facts.trials if row.id not in goes_on]
    trained = [max((step for step, _ in row.curve), default=0) for row in rows]
    return sum(trained), len(rows) * max(trained, default=0)


def trial_cards(facts: Facts) -> list[str]:
    """Return the headline numbers of a hyper-parameter search."""
    goal = facts.objectives[0]
    best = next(iter(best_first(facts.trials, facts.about)), None)
    found = []
    if best is not None:
        final = next((final for final in facts.members if final.id == best.id), None)
        tested = final.test.get(f"test_{goal}") if final else None
        name, shown = (
            (f"test {title(goal)}", tested)
            if tested is not None
            else (title(goal), best.evaluation.metrics[goal])
        )
        note = f"{title(goal)} on the search split {number(best.evaluation.metrics[goal], goal)}"
        found.append(card(f"trial {best.id}: {name}", number(shown, goal), "", note, lead=True))
    steps, whole = _steps(facts)
    if whole:
        found.append(
            card(
                "epochs trained",
                f"{steps:,}",
                "",
                f"{100 * steps / whole:.0f} % of {whole:,}, had no trial been stopped",
            )
        )
    stopped = sum(row.evaluation.state is State.PRUNED for row in facts.trials)
    found.append(
        card(
            "stopped early",
            f"{stopped:,}",
            f"of {len(facts.trials):,}",
            counted(facts.trials).split(": ")[-1],
        )
    )
    found.append(card("work", f"{facts.seconds:,.0f}", "s", "of all workers together"))
    return found


def best_trials(facts: Facts, most: int = 20) -> str:
    """Return the best trials with their metrics and parameters."""
    shown = best_first(facts.trials, facts.about)[:most]
    metrics = [
        *facts.objectives,
        *(name for name in SHOWN if name not in facts.objectives and name in facts.metrics),
    ]
    tested = {final.id: final for final in facts.members}
    body = []
    for row in shown:
        final, known = tested.get(row.id), row.evaluation.metrics
        name = str(row.id)
        if final is not None and final.folder:
            name = f"<b>{row.id}</b> {file_links(final)}"
        cells = [name, *(number(known[metric], metric) if metric in known else "" for metric in metrics)]
        body.append([*cells, *_settings(row, facts)])
    notes = [
        f"{final.name.replace('candidate', 'trial')}, test split: {_tested(final)}" for final in facts.members
    ]
    below = f'<p style="margin:10px 0 0;font-size:13.5px">{escape("; ".join(notes))}</p>' if notes else ""
    return rows(["trial", *map(title, metrics), *map(short, facts.about.parameters)], body, "") + below


def file_links(final: Final, recipe: bool = True) -> str:
    """Return links to the files of a finished model."""
    files = {"weights": "weights.safetensors", "ONNX": final.onnx.get("file", "")}
    files |= {"int8": final.int8.get("file", "")}
    files |= {"recipe": "recipe.json"} if recipe else {}
    shown = (
        f'<a href="{escape(final.folder)}/{escape(file)}">{name}</a>' for name, file in files.items() if file
    )
    return " · ".join(shown)


def _settings(row: TrialRow, facts: Facts) -> list[str]:
    """The parameters of a trial as cells; those that are not active are dashes."""
    known = row.parameters
    return [escape(setting(known[name])) if name in known else "-" for name in facts.about.parameters]


def _tested(final: Final) -> str:
    return final.reason or ", ".join(
        f"{title(name.removeprefix('test_'))} {number(found, name)}" for name, found in final.test.items()
    )


def stopped_table(facts: Facts) -> str:
    """Return why trials were stopped, the commonest first, and after how many steps; an empty string where
    none was.
    """
    found = [row for row in facts.trials if row.evaluation.state is State.PRUNED]
    reasons = Counter(_cause(row) for row in found)
    body = []
    for reason, count in reasons.most_common(12):
        steps = Counter(row.curve[-1][0] for row in found if row.curve and _cause(row) == reason)
        body.append(
            [
                f"{count:,}",
                escape(reason),
                ", ".join(f"{step} ({many})" for step, many in sorted(steps.items())[:12]),
            ]
        )
    return rows(["trials", "reason", "at step (trials)"], body) if found else ""


def _cause(row: TrialRow) -> str:
    return re.split(r" at step | \(step ", row.evaluation.reason or "stopped")[0]


def cards(facts: Facts) -> list[str]:
    """Return the headline numbers of the search."""
    if facts.trials:
        return trial_cards(facts)
    found = []
    quality = facts.objectives[0]
    tested = facts.base.test.get(f"test_{quality}_before") if facts.base else None
    if tested is not None or quality in facts.about.base:
        split = "test split" if tested is not None else "search split"
        value = tested if tested is not None else facts.about.base[quality]
        found.append(
            card(
                f"base model, {title(quality)}",
                number(value, quality),
                "",
                f"{split}; {_costs(facts.about.base)}",
            )
        )
    feasible = int(facts.feasible.sum())
    completed = len(facts.ids)
    found.append(
        card(
            "front",
            f"{len(facts.front)}",
            "members",
            f"{100 * feasible / completed:.0f} % of the candidates are feasible" if completed else "",
        )
    )
    if facts.history:
        found.append(
            card(
                "hypervolume",
                f"{facts.history[-1][1]:.3f}",
                "of the box",
                f"{facts.history[0][1]:.3f} after the first member",
            )
        )
    failed = facts.states["failed"]
    note = (
        f"{facts.seconds:,.0f} s of work"
        + (f", {failed:,} failed" if failed else "")
        + (f", {facts.states['pruned']:,} pruned" if facts.states["pruned"] else "")
    )
    found.append(card("evaluations", f"{facts.evaluated:,}", "", note))
    return found


def _costs(base: dict[str, float]) -> str:
    return ", ".join(
        f"{number(base[name], name)} {'' if name == 'bytes' else title(name)}".strip()
        for name in COSTS
        if name in base
    )


def front_table(facts: Facts, most: int = 100) -> str:
    """Return the front as the search saw it."""
    names = [*facts.objectives, *(name for name in facts.metrics if name not in facts.objectives)]
    body = [
        [
            str(m.candidate.id),
            *(number(m.metrics[name], name) if name in m.metrics else "" for name in names),
            escape(m.candidate.operator.replace("+", " + ")),
        ]
        for m in facts.front[:most]
    ]
    more = (
        f'<p class="faint">{len(facts.front) - most} more in front.csv</p>' if len(facts.front) > most else ""
    )
    table = rows(["candidate", *map(title, names), "operator"], body, "")
    return f"<details><summary>all {min(len(facts.front), most)} members</summary>{table}{more}</details>"


def frozen_table(facts: Facts) -> str:
    """Return what cannot be pruned and why, one line a reason; an empty string where nothing is frozen."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for entry in facts.about.space.get("frozen", []):
        by_reason.setdefault((entry["reason"], entry.get("where", "")), []).append(entry["axis"])
    body = [
        [_names(axes), escape(reason) + (f"<br><code>{escape(where)}</code>" if where else "")]
        for (reason, where), axes in by_reason.items()
    ]
    return rows(["axis", "why it stays whole"], body) if body else ""


def _names(axes: list[str], most: int = 6) -> str:
    shown = ", ".join(f"<code>{escape(axis)}</code>" for axis in axes[:most])
    return shown + (f" <span class=faint>and {len(axes) - most} more</span>" if len(axes) > most else "")


def failures_table(reasons: Counter[str]) -> str:
    """Return why candidates failed, the commonest first; an empty string where none did."""
    body = [[f"{count:,}", f"<code>{escape(reason)}</code>"] for reason, count in reasons.most_common(12)]
    return rows(["candidates", "reason"], body) if body else ""


def rungs_table(facts: Facts) -> str:
    """Return what became of each rung of a ladder; an empty string where there was none."""
    body = [
        [
            str(rung.number),
            f"{rung.looked:,}",
            f"{rung.went_on:,}",
            f"{rung.correlation.tau:.2f} of {rung.correlation.n:,}"
            if math.isfinite(rung.correlation.tau)
            else "too few to tell",
        ]
        for rung in rungs(facts)
    ]
    return (
        rows(["rung", "looked at", "went on", "rank correlation with the last rung"], body, "numbers")
        if body
        else ""
    )


def surroundings(directory: Path) -> str:
    """Return environment and settings, as the run directory has them."""
    parts = []
    try:
        known = told_without_secrets(json.loads((directory / "environment.json").read_bytes()))
        known.pop("before", None)
        parts.append(
            rows(
                ["", ""],
                [[escape(str(key)), f"<code>{escape(_plain(value))}</code>"] for key, value in known.items()],
            )
        )
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        pass  # it is missing or damaged
    try:
        text = redacted_yaml((directory / "config.yaml").read_text(errors="replace"))
        parts.append(
            f"<details><summary>config.yaml, complete: it runs again as it "
            f"is</summary><pre><code>{escape(text)}</code></pre></details>"
        )
    except OSError:
        pass
    return "".join(parts)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
