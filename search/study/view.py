"""The view itself: what it writes, and when."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, get_storage

from search.ending import Ending
from search.numbers import number
from search.record.ledger_store import EvaluationRow
from search.record.sqlite_store import SQLiteStore
from search.study.goals import Goals
from search.study.journal import DamagedStudyError, open_journal
from search.study.parameters import Parameters
from search.study.trials import MEMBER, Study

LOG = "study.log"
_CHUNK = 100  # trials written between two looks at the ledger
_NOTES_EVERY = 5.0  # seconds between two rounds of notes: they are for people


class View:
    """Keeps a study in step with a ledger: what joins the front at once, the rest in the order of arrival.

    Attributes:
        note: what people should know of how it was opened; mostly empty.
    """

    def __init__(self, directory: Path, storage: str | None) -> None:
        self._directory = directory
        self._store = SQLiteStore.reader(directory / "ledger.db")
        about = self._about = self._store.note("about")
        if about is None:
            raise LookupError("this run has not begun to evaluate; expected one that has")
        self._goals = Goals(about)
        self._parameters = Parameters(
            self._store.about("space")["segments"], about.get("labels", {}), about.get("parameters")
        )
        self.note = ""
        if storage:
            opened = get_storage(storage)
            try:
                self._study = self._open(opened)
            except DamagedStudyError as error:
                optuna.delete_study(study_name=about["name"], storage=opened)
                self._study = self._open(opened)
                self.note = f"study {about['name']}: {error}; written again from the ledger"
        else:
            self._study, self.note = open_journal(directory / LOG, self._open_alone)
        self._scanned = self._filled = 0
        self._front: dict[int, EvaluationRow] = {}  # what is on the front, by number
        self._noted = 0.0

    def _open_alone(self, storage: BaseStorage) -> Study:
        """Open the study in a file of the run's own."""
        names = [study.study_name for study in storage.get_all_studies()]
        if others := [name for name in names if name != self._about["name"]]:
            raise DamagedStudyError(f"it holds another study, {others[0]}")
        return self._open(storage)

    def _open(self, storage: BaseStorage) -> Study:
        about = self._about
        return Study(
            storage,
            about["name"],
            self._goals,
            self._parameters,
            self._store,
            self._store.last_seq,
            about.get("monitor") or "",
        )

    def step(self) -> bool:
        """Write some trials; whether there is more to write."""
        for row in self._store.evaluations(self._scanned):
            self._scanned = row.seq
            if row.state == "complete" and self._goals.join(row.seq, row.metrics):
                self._front[row.seq] = row
        self._front = {seq: self._front[seq] for seq in self._goals.front}
        for seq, row in self._front.items():  # what was pushed off meanwhile waits for its turn
            if seq not in self._study.trials:
                self._study.write(row)
        rows = list(islice(self._store.evaluations(self._filled), _CHUNK))
        for row in rows:
            if row.seq not in self._study.trials:
                self._study.write(row)
            self._filled = row.seq
        if time.monotonic() - self._noted > _NOTES_EVERY:
            self.annotate()
        return bool(rows)

    def annotate(self) -> None:
        """Bring the notes up to date: on the study, on the members of the front, on those that
        have left it.
        """
        self._noted = time.monotonic()
        finals = self._store.notes("final/")
        for seq, row in self._front.items():
            if seq in self._study.trials:
                self._study.annotate(seq, self._member(row, finals.get(str(row.candidate.id))), member=True)
        for seq in self._study.annotated - self._front.keys():
            self._study.annotate(seq, "Was on the front; dominated by now.")
        self._study.annotate(None, self._summary(len(self._front)))

    def _summary(self, members: int) -> str:
        written, total = len(self._study.trials), self._store.last_seq
        lines = [
            f"## {_plain(self._about['name'])}",
            "A view of the ledger: it may be deleted and is written again.",
            "",
        ]
        lines.append(
            f"**{written} of {total} candidates shown**"
            + (f", {total - written} left out so far." if written < total else ".")
        )
        one = len(self._about["objectives"]) == 1
        best = (
            "The best one carries a note."
            if one
            else f"The front has **{members} members**; each carries a note."
        )
        lines.append(
            f"{best} Infeasible trials are grey, and have `feasible: no`."
            if self._about["constraints"]
            else best
        )
        if self._about["base"]:
            base = [f"| {_plain(name)} | {number(value)} |" for name, value in self._about["base"].items()]
            lines += ["", "| metric | base model |", "| --- | --- |", *base]
        if self._about.get("parameters"):
            watched = self._about.get("monitor") or self._about["objectives"][0]["metric"]
            lines.append(f"The curves show {_code(watched)}.")
        lines += [
            "",
            *(
                f"- constraint {_code(c['text'])}: limit {number(c['limit'])}"
                for c in self._about["constraints"]
            ),
        ]
        if self._parameters.left_out:
            lines.append(f"- {self._parameters.left_out} more parameters are in the ledger only")
        ending = Ending.read(self._store.note)
        return "\n".join([*lines, *([f"- the search ended: {_plain(str(ending))}"] if ending else [])])

    def _member(self, row: EvaluationRow, final: Mapping[str, Any] | None) -> str:
        base, metrics, candidate = self._about["base"], row.metrics, row.candidate
        lines = [f"{MEMBER}: candidate {candidate.id}", ""]
        if base:
            lines += ["| metric | value | base model |", "| --- | --- | --- |"]
            lines += [
                f"| {_plain(name)} | {number(value)} | {number(base[name]) if name in base else ''} |"
                for name, value in metrics.items()
            ]
        else:
            lines += [
                "| metric | value |",
                "| --- | --- |",
                *(f"| {_plain(name)} | {number(value)} |" for name, value in metrics.items()),
            ]
        parents = ", ".join(map(str, candidate.parents))
        lines += ["", f"From {_code(candidate.operator)}" + (f" of {parents}." if parents else ".")]
        if final:
            heading = (
                "On the test split"
                if self._about.get("parameters")
                else "After fine-tuning, on the test split"
            )
            lines += ["", f"### {heading}", "", "| metric | value |", "| --- | --- |"]
            lines += [
                f"| {_plain(name)} | {number(value)} |" for name, value in final.get("test", {}).items()
            ]
            folder = self._directory / "models" / str(candidate.id)
            lines += [
                "",
                *(f"- `{file}`" for file in sorted(folder.glob("*")) if not file.name.startswith(".")),
            ]
        return "\n".join(lines)


def _plain(text: str) -> str:
    """A text of the user's within Markdown, letter by letter."""
    return re.sub(r"[&<>|`\[\]*\\]", lambda m: f"&#{ord(m[0])};", " ".join(text.split()))


def _code(text: str) -> str:
    """The same in the letters of code."""
    return f"`{' '.join(text.split()).replace('`', chr(39))}`"
