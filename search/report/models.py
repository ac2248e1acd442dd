"""The part of the report for whoever deploys: which model to take, how to load it, what all are like."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from evaluators.cost.counting import COSTS
from search.finish.recipe import Recipe
from search.numbers import bound, number, share, title
from search.record.finals import BASE, Final
from search.report.advice import advise, base_at_best, is_maximised, main_cost, main_quality
from search.report.facts import Facts
from search.report.models_figures import over_figure
from search.report.page import button, card, copied, drawing, pair
from search.report.phrases import file_links
from search.report.table import earlier_words, int8_words, realised_otherwise, tested_metrics, was_tuned
from spaces.errors import InputError

_NOTHING = '<td class="faint">–</td>'
"""The cell of what is not known."""
_LATENCIES = ("latency_ms", "onnx_latency_ms")


class Models:
    """The finished models of a run, as sections of its report.

    Args:
        facts: of the run.
        directory: of the run, whose recipes say how a model is loaded.
    """

    def __init__(self, facts: Facts, directory: Path) -> None:
        self._facts, self._directory = facts, directory
        self._advice = advise(facts.finals, facts.about)
        self._quality = main_quality(facts.finals, facts.about)
        self._sign = -1 if self._quality and is_maximised(self._quality, facts.about) else 1
        self._cost = main_cost(facts.about)

    @property
    def is_advising(self) -> bool:
        """Whether there is a model to take."""
        return self._advice is not None

    def take(self) -> tuple[str, str, str]:
        """Return heading, body and words of the section that says which model to take; empty texts where
        nothing was tested.
        """
        if self._advice is None:
            return "", "", ""
        final = self._advice.final
        body = f'<div class="cards">{"".join(self._cards(final))}</div>'
        if final.folder:
            files = f'{file_links(final)} · <a href="front.csv">front.csv</a>'
            body += f'<p class="links">{files}</p>{copied("code", self._code(final), "python")}'
        words = f"{escape(self._advice.words)} It was chosen for {escape(self._advice.why)}."
        return f"Take {final.name}", body, words

    def loaded(self) -> str:
        """Return the code that loads the first exported model; empty where there is none."""
        exported = next((final for final in self._facts.members if final.folder), None)
        return copied("code", self._code(exported), "python") if exported is not None else ""

    def _cards(self, final: Final) -> list[str]:
        """The figures of a model, each beside the base model's."""
        base, quality = self._facts.base, self._quality or ""
        known = base.realised if base is not None else self._facts.about.base
        limit = base_at_best(base, quality, self._sign)
        beside = f"base model {number(limit, quality)}" if limit is not None else "on the test split"
        cards = [
            card(f"test {title(quality)}", number(final.test[f"test_{quality}"], quality), "", beside, True)
        ]
        for name in dict.fromkeys((self._cost, "bytes", "macs", *_LATENCIES)):
            if name in final.realised:
                part = share(final.realised[name], known.get(name))
                whole = f"{part} of {number(known[name], name)}" if part else ""
                cards.append(card(_called(name), number(final.realised[name], name), "", whole))
        return cards

    def _code(self, final: Final) -> str:
        """The lines of Python that load a model, and run its ONNX file."""
        folder = f"{self._place()}/{final.folder}"
        try:
            made = Recipe.read(self._directory / final.folder).model
            known = made is not None
            theirs = str(made["class_path"]) if made else ""
        except (InputError, KeyError, TypeError):
            known, theirs = True, ""
        ours = theirs.split(".")[0] in (
            "",
            "spaces",
            "evaluators",
            "operators",
            "search",
            "secateur",
            "torch",
        )
        more = "" if known and ours else f", allow=[{theirs!r}]" if known else ", model=base_model"
        lines = ["from secateur import load", "", f"model = load({folder!r}{more})"]
        if "file" in final.onnx:
            onnx = f"{folder}/{final.onnx['file']}"
            lines += ["", "# or, without Secateur and torch", "import onnxruntime"]
            lines += ["", f"session = onnxruntime.InferenceSession({onnx!r})"]
        if "file" in final.int8:
            small = f"{folder}/{final.int8['file']}"
            lines += ["", "# or with weights and activations of 8 bits"]
            lines += [f"session = onnxruntime.InferenceSession({small!r})"]
        return "\n".join(lines)

    def _place(self) -> str:
        """The run's folder, from where the run was started."""
        path = os.path.relpath(self._directory)
        return str(self._directory) if path.startswith("..") else path

    def figures(self) -> str:
        """Return quality against cost and against measured latency, side by side."""
        quality = self._quality
        names = [name for name in (self._cost, "latency_ms") if self._known(name)]
        if quality is None or not names:
            return ""
        taken = self._advice.final if self._advice is not None else None
        finals, about = self._facts.finals, self._facts.about
        drawn = [
            f"<div>{drawing(over_figure(finals, about, quality, name, taken), f'over_{name}')}</div>"
            for name in names
        ]
        return pair(*drawn)

    def _known(self, name: str) -> bool:
        return any(name in final.realised for final in self._facts.members)

    def limits(self) -> str:
        """Return sliders for the limits, and what they leave; empty where there is nothing to choose from."""
        names = [name for name in ("macs", "bytes", "latency_ms") if self._known(name)]
        if self._quality is None or len(self._facts.members) < 2:
            return ""
        sliders = "".join(map(self._slider, names))
        words = self._advice.words if self._advice is not None else ""
        return f'<div class="limits">{sliders}</div><p id="verdict">{escape(words)}</p>'

    def _slider(self, name: str) -> str:
        values = sorted({f.realised[name] for f in self._facts.members if name in f.realised})
        steps = [[value, f"≤ {number(value, name)}"] for value in values] + [[values[-1], "any"]]
        data = escape(json.dumps(steps, ensure_ascii=False))
        return (
            f'<label>{escape(_called(name))} <output>any</output><input type="range" min="0" '
            f'max="{len(values)}" value="{len(values)}" data-limit="{name}" data-at="{values[-1]}" '
            f'data-steps="{data}"></label>'
        )

    def table(self) -> str:
        """Return all finished models: quality before and after fine-tuning, cost, latency, checks, files."""
        finals, measured = self._facts.finals, tested_metrics(self._facts.finals, self._facts.about)
        costs = [name for name in COSTS if any(name in final.realised for final in finals)]
        tuned = was_tuned(finals)
        small = any("file" in final.int8 for final in finals)
        groups = [
            ("", 1),
            *((f"test {title(metric)}", 2 if tuned else 1) for metric in measured),
            *((_called(name), 1) for name in costs),
            ("latency, ms", 2),
            ("largest", 1),
            *([("int8, in ONNX Runtime", len(measured) + 2)] if small else []),
            ("", 1),
        ]
        names = [
            "model",
            *((["before", "tuned"] if tuned else ["not tuned"]) * len(measured)),
            *("of base" if name == self._cost else "" for name in costs),
            *("torch", "ONNX", "difference"),
            *([*(f"test {title(metric)}" for metric in measured), "size", "latency, ms"] if small else []),
            "files",
        ]
        top = "".join(f'<th class="group" colspan="{width}">{escape(text)}</th>' for text, width in groups)
        second = "".join(f"<th>{name}</th>" for name in names)
        body = "".join(self._row(final, measured, costs, tuned, small, len(names)) for final in finals)
        return (
            f'<div class="scroll"><table><thead><tr>{top}</tr><tr>{second}</tr></thead><tbody>{body}</tbody>'
            f"</table></div>{_notes(self._facts)}"
        )

    def _row(
        self,
        final: Final,
        measured: Sequence[str],
        costs: Sequence[str],
        tuned: bool,
        small: bool,
        width: int,
    ) -> str:
        if final.reason:
            return (
                f'<tr><td>{final.name}</td><td colspan="{width - 1}" class="bad" '
                f'style="text-align:left">{escape(final.reason)}</td></tr>'
            )
        cells = [f"<td><b>{final.name}</b></td>"]
        for metric in measured:
            before = [_cell(final.test.get(f"test_{metric}_before"), metric)] if tuned else []
            cells += [*before, _cell(final.test.get(f"test_{metric}"), metric, "strong")]
        cells += [self._realised(final, cost) for cost in costs]
        torch = final.realised.get("torch_latency_ms", final.realised.get("latency_ms"))
        for latency in (torch, final.realised.get("onnx_latency_ms")):
            cells.append(f"<td>{latency:.3f}</td>" if latency is not None else _NOTHING)
        cells += [_check(final), *(_of_int8(final, measured) if small else []), self._files(final)]
        return f"<tr{self._data(final)}>{''.join(cells)}</tr>"

    def _realised(self, final: Final, cost: str) -> str:
        """A cell: the cost as counted on the exported model, and as requested where the two differ."""
        value = final.realised.get(cost)
        if value is None:
            return _NOTHING
        base = self._facts.base
        part = share(value, base.realised.get(cost) if base else None) if cost == self._cost else ""
        text = number(value, cost) + (f" <small>{part}</small>" if part else "")
        if realised_otherwise(final, cost):
            requested = number(final.requested[cost], cost)
            return f'<td class="bad">{text}<br><small>requested {requested}</small></td>'
        return f"<td>{text}</td>"

    def _files(self, final: Final) -> str:
        if not final.folder:
            return "<td></td>"
        return f"<td>{file_links(final, recipe=False)}{button('code', load=self._code(final))}</td>"

    def _data(self, final: Final) -> str:
        """What the sliders read of a row."""
        if final.id == BASE:
            return " class=base"
        data = {
            name: final.realised[name] for name in ("macs", "bytes", "latency_ms") if name in final.realised
        }
        pairs = [f'data-{name}="{value}"' for name, value in data.items()]
        quality, key = self._quality, f"test_{self._quality}"
        if quality is not None and key in final.test:
            at = f" at {number(final.realised['macs'], 'macs')} MACs" if "macs" in final.realised else ""
            words = f"Best within these limits: {final.name}, test {title(quality)} "
            words += f"{number(final.test[key], quality)}{at}."
            pairs += [f'data-loss="{self._sign * final.test[key]}"', f'data-words="{escape(words)}"']
        return f' data-model="{final.name}" {" ".join(pairs)}'


def _called(name: str) -> str:
    """A cost as people call it."""
    named = {"bytes": "size", "params": "parameters", "latency_ms": "latency"}
    return named.get(name, title(name))


def _cell(value: float | None, name: str, kind: str = "") -> str:
    return f'<td class="{kind}">{number(value, name)}</td>' if value is not None else _NOTHING


def _of_int8(final: Final, measured: Sequence[str]) -> list[str]:
    """Cells of an int8 file: its figures on the test split, size and latency."""
    known = final.int8
    if "file" not in known:
        return [_NOTHING] * (len(measured) + 2)
    tests = [_cell(known["test"].get(f"test_{metric}"), metric, "strong") for metric in measured]
    return [*tests, _cell(known["bytes"], "bytes"), f"<td>{known['latency_ms']:.3f}</td>"]


def _check(final: Final) -> str:
    """A cell with the largest difference that the checks found, by its order of magnitude."""
    found = {
        "to the masked full model": max(final.differences.values(), default=None),
        "of ONNX Runtime to torch": final.onnx.get("max_difference"),
    }
    known = {name: value for name, value in found.items() if value is not None}
    if not known:
        return _NOTHING
    told = "; ".join(f"{name} {value:.0e}" if value else f"{name} 0" for name, value in known.items())
    worst = max(known.values())
    return f'<td class="ok" title="{told}">{f"{worst:.0e}" if worst else "0"}</td>'


def _notes(facts: Facts) -> str:
    """Limits, and what could not be exported, below the table."""
    lines = []
    for constraint in facts.about.constraints:
        held = [
            (final, limit)
            for final in facts.finals
            for limit in final.limits
            if limit.text == constraint["text"]
        ]
        broken = [
            f"{final.name} ({number(limit.value, constraint['metric'])})"
            for final, limit in held
            if not limit.met
        ]
        text = bound(constraint)
        if constraint["relative"]:
            text += f" ({number(constraint['limit'], constraint['metric'])})"
        if held:
            lines.append(
                _line("bad", f"{text}: not met by {', '.join(broken)}")
                if broken
                else _line("ok", f"{text}: met by all")
            )
    if earlier := earlier_words(facts.finals):
        lines.append(escape(earlier[0].upper() + earlier[1:] + "."))
    missing = dict.fromkeys(final.onnx["missing"] for final in facts.finals if "missing" in final.onnx)
    lines += [_line("bad", f"no ONNX file: {reason}") for reason in missing]
    for final in facts.finals:
        if words := int8_words(final):
            lines.append(_line("bad" if "missing" in final.int8 else "ok", f"{final.name}: {words}"))
    return f'<p style="margin:10px 0 0;font-size:13.5px">{"<br>".join(lines)}</p>' if lines else ""


def _line(kind: str, text: str) -> str:
    return f'<span class="{kind}">{escape(text)}</span>'
