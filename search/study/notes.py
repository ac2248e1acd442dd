"""What the notes of a study say of finished models."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search.numbers import number
from search.study.files import RunFiles

_COSTS = ("macs", "bytes", "latency_ms")


class ModelNotes:
    """Finished models in Markdown.

    Args:
        directory: of the run.
        about: the run, as its ledger says.
        files: of the run.
    """

    def __init__(self, directory: Path, about: Mapping[str, Any], files: RunFiles) -> None:
        self._directory, self._about, self._files = directory, about, files

    def table(self, finals: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Return where the report is, and the finished models as a table, by their numbers."""
        lines = ["", *self._places(self._files.of_run())]
        shown = {id: final for id, final in finals.items() if final.get("test")}
        if not shown:
            return lines
        names = self._metrics(list(shown.values()))
        heads = [plain(name.replace("_", " ")) for name in (*names, *_COSTS)]
        rows = [
            ["base model" if int(id) < 0 else id, *self._figures(final, names), self._folder(final)]
            for id, final in shown.items()
        ]
        return [*lines, "", "### Finished models", "", *_table(["trial", *heads, "folder"], rows)]

    def _metrics(self, finals: Sequence[Mapping[str, Any]]) -> list[str]:
        """The tested metrics that the search was about, each before and after the fine-tuning."""
        goals = [goal["metric"] for goal in (*self._about["objectives"], *self._about["constraints"])]
        tested = {name for final in finals for name in final["test"]}
        names = (f"test_{goal}{end}" for goal in dict.fromkeys(goals) for end in ("_before", ""))
        return [name for name in names if name in tested]

    def _figures(self, final: Mapping[str, Any], names: Sequence[str]) -> list[str]:
        test, realised = final["test"], final.get("realised", {})
        known = [(test.get(name), name) for name in names] + [(realised.get(name), name) for name in _COSTS]
        return ["" if value is None else number(value, name) for value, name in known]

    def _folder(self, final: Mapping[str, Any]) -> str:
        return code(str(self._directory / final["folder"])) if final.get("folder") else ""

    def of(self, final: Mapping[str, Any]) -> list[str]:
        """Return what became of one model: test figures, those on the search split after the fine-tuning,
        costs, and its files.
        """
        lines = self._tested(final)
        if realised := final.get("realised"):
            rows = [[plain(name), number(value)] for name, value in realised.items()]
            lines += ["", "### As exported", "", *_table(["cost", "value"], rows)]
        if final.get("reason"):
            lines += ["", f"Not exported: {plain(final['reason'])}"]
        return [*lines, "", *self._places(self._files.of_model(final.get("folder", "")))]

    def _tested(self, final: Mapping[str, Any]) -> list[str]:
        test, tuned = final.get("test", {}), final.get("tuned", {})
        columns = {"test split": (test, "test_{}")}
        heading = "### On the test split"
        if not self._about.get("parameters"):  # a trial was trained by the search, and is not tuned
            heading = "### After fine-tuning"
            columns = {"test split, before": (test, "test_{}_before"), "test split, tuned": (test, "test_{}")}
            columns["search split, tuned"] = (tuned, "{}")
        found = [name.removeprefix("test_").removesuffix("_before") for name in test]
        rows = []
        for name in dict.fromkeys([*found, *(tuned if len(columns) > 1 else ())]):
            known = [values.get(form.format(name)) for values, form in columns.values()]
            rows.append([plain(name), *("" if value is None else number(value) for value in known)])
        return ["", heading, "", *_table(["metric", *columns], rows)] if rows else []

    def _places(self, files: Sequence[Path]) -> list[str]:
        return [f"- {code(str(self._directory / file))}" for file in files]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join('---' for _ in heads)} |"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def plain(text: str) -> str:
    """A text of the user's within Markdown, letter by letter."""
    return re.sub(r"[&<>|`\[\]*\\]", lambda m: f"&#{ord(m[0])};", " ".join(text.split()))


def code(text: str) -> str:
    """The same in the letters of code."""
    return f"`{' '.join(text.split()).replace('`', chr(39))}`"
