"""The view itself: what it writes, and when."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend

from search.ending import Ending
from search.numbers import number
from search.record.ledger_store import EvaluationRow
from search.record.sqlite_store import SQLiteStore
from search.study.files import RunFiles
from search.study.goals import Goals
from search.study.journal import DamagedStudyError, open_journal
from search.study.notes import ModelNotes, code, plain
from search.study.ordering import InOrder
from search.study.parameters import Parameters
from search.study.selection import LOG_BYTES, NEWEST, SHOWN, Selection
from search.study.trials import MEMBER, Study
from spaces.files import create_private

LOG = "study.log"
_CHUNK = 100  # trials written between two looks at the ledger
_NOTES_EVERY = 5.0  # seconds between two rounds of notes: they are for people


class View:
    """Keeps a study in step with a ledger: what joins the front at once, the rest in the order of arrival.

    A run of more than :data:`~search.study.selection.SHOWN` evaluations is shown by a part of them: the
    front, the finished ones, an even sample, and at the end the newest. Where more than that, or a larger
    journal, has been written, the study is written anew with a thinner sample.

    Args:
        directory: of the run.
        storage: database URL of the study; None: ``study.log`` in the directory.
        most: trials that are shown.

    Attributes:
        note: what people should know of how it was opened; mostly empty.
    """

    def __init__(self, directory: Path, storage: str | None, most: int = SHOWN) -> None:
        self._directory, self._url = directory, storage
        self._log = directory / LOG
        self._store = SQLiteStore.reader(directory / "ledger.db")
        about = self._about = self._store.note("about")
        if about is None:
            raise LookupError("this run has not begun to evaluate; expected one that has")
        self._goals = Goals(about)
        self._parameters = Parameters(
            self._store.about("space")["segments"], about.get("labels", {}), about.get("parameters")
        )
        self.note = ""
        self._files = RunFiles(directory)
        self._models = ModelNotes(directory, about, self._files)
        self._in_order = InOrder()
        self._selection = Selection(most)
        self._selection.fit(self._store.last_seq)
        if storage:
            try:
                self._study = self._open(get_storage(storage))
            except DamagedStudyError as error:
                optuna.delete_study(study_name=about["name"], storage=storage)
                self._study = self._open(get_storage(storage))
                self.note = f"study {about['name']}: {error}; written again from the ledger"
        else:
            if self._log_size > LOG_BYTES:
                self._log.unlink()  # of an older version: it is written again, with fewer trials
            self._study, self.note = open_journal(self._log, self._open_alone)
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
        return Study(
            storage,
            self._about["name"],
            self._goals,
            self._parameters,
            self._store,
            self._store.last_seq,
            self._about.get("monitor") or "",
            numbered=self._selection.every == 1,
        )

    @property
    def _log_size(self) -> int:
        return self._log.stat().st_size if self._url is None and self._log.is_file() else 0

    def step(self) -> bool:
        """Write some trials; whether there is more to write."""
        for row in self._store.evaluations(self._scanned):
            self._scanned = row.seq
            if row.state == "complete" and self._goals.join(row.seq, row.metrics):
                self._front[row.seq] = row
        self._front = {seq: self._front[seq] for seq in self._goals.front}
        if self._selection.every > 1:
            for seq in self._selection.of_front(self._goals.front):  # what was pushed off waits for its turn
                self._show(self._front[seq])
        rows = list(islice(self._store.evaluations(self._filled), _CHUNK))
        for row in rows:
            if self._selection.every == 1:
                self._in_order.add(row)
            elif self._selection.holds(row.seq):
                self._show(row)
            self._filled = row.seq
        self._show_in_order()
        if len(self._study.trials) > self._selection.most or self._log_size > LOG_BYTES:
            self._thin()
        if time.monotonic() - self._noted > _NOTES_EVERY:
            self.annotate()
        return bool(rows)

    def _show_in_order(self, all_of_them: bool = False) -> None:
        """Show evaluations of a run that is shown whole, in the order of their candidates."""
        for row in self._in_order.ready(self._study.following, all_of_them):
            self._show(row)

    def finish(self) -> str:
        """Show the newest trials, and bring the notes up to date for the last time.

        Returns:
            One line on what is shown, where that is not everything; else an empty text.
        """
        self._show_in_order(all_of_them=True)
        if self._study.misnumbered:
            self._write_anew()
        if self._selection.every > 1:
            for row in self._store.evaluations(max(0, self._filled - NEWEST)):
                if row.seq <= self._filled:
                    self._show(row)
        self.annotate()
        return self._told_shown() if self._selection.every > 1 else ""

    def _show(self, row: EvaluationRow) -> None:
        if row.seq not in self._study.trials:
            self._study.write(row)

    def _thin(self) -> None:
        """Write the study anew, with half as many of the sample where that leaves too little room."""
        self._selection.fit(self._filled)
        front = len(self._selection.of_front(self._goals.front))
        if self._filled / self._selection.every + front > 0.75 * self._selection.most:
            self._selection.thin()
        while True:
            self._write_anew()
            if self._log_size <= LOG_BYTES / 2 or self._selection.most == 16:
                break
            self._selection.halve()
        self._noted = 0.0

    def _write_anew(self) -> None:
        front = set(self._selection.of_front(self._goals.front))
        self._in_order = InOrder()  # all that it holds is written here
        if self._url is not None:
            del self._study
            optuna.delete_study(study_name=self._about["name"], storage=self._url)
            self._study = self._open(get_storage(self._url))
            self._write_selected(self._study, front)
            return
        del self._study  # two at a time would take twice the memory
        beside = self._log.with_suffix(".new")
        beside.unlink(missing_ok=True)
        create_private(beside)
        self._write_selected(self._open(JournalStorage(_Unsynced(str(beside)))), front)
        beside.replace(self._log)
        self._study = self._open(JournalStorage(JournalFileBackend(str(self._log))))

    def _write_selected(self, study: Study, front: set[int]) -> None:
        rows: Iterable[EvaluationRow]
        rows = takewhile(lambda row: row.seq <= self._filled, self._store.evaluations())
        if self._selection.every == 1:  # few enough to be put into the order of their candidates
            rows = sorted(rows, key=lambda row: row.candidate.id)
        for row in rows:
            if self._selection.holds(row.seq) or row.seq in front:
                study.write(row)
        for seq in front - study.trials.keys():  # not filled so far
            study.write(self._front[seq])

    def annotate(self) -> None:
        """Bring the notes up to date: on the study, on the members of the front, on those that
        have left it.
        """
        self._noted = time.monotonic()
        finals = self._store.notes("final/")
        if self._selection.every > 1:
            rows = (self._store.evaluation(int(id)) for id in finals if int(id) >= 0)
            for row in rows:
                if row is not None:
                    self._show(row)
            self._study.say(self._told_shown())
        for seq, row in self._front.items():
            if seq in self._study.trials:
                self._study.annotate(seq, self._member(row, finals.get(str(row.candidate.id))), member=True)
        for seq in self._study.annotated - self._front.keys():
            self._study.annotate(seq, "Was on the front; dominated by now.")
        self._annotate_finished(finals)
        self._study.annotate(None, self._summary(len(self._front), finals))
        self._study.attach(None, self._files.of_run())

    def _annotate_finished(self, finals: Mapping[str, Mapping[str, Any]]) -> None:
        """Say of every finished model what became of it, also where it has left the front, and offer its
        files.
        """
        for id, final in finals.items():
            row = self._store.evaluation(int(id)) if int(id) >= 0 else None
            if row is None or row.seq not in self._study.trials:
                continue
            if row.seq not in self._front:
                self._study.annotate(row.seq, "\n".join(self._models.of(final)).strip())
            self._study.attach(row.seq, self._files.of_model(final.get("folder", "")))

    def _summary(self, members: int, finals: Mapping[str, Mapping[str, Any]]) -> str:
        written, total = len(self._study.trials), self._store.last_seq
        lines = [
            f"## {plain(self._about['name'])}",
            "A view of the ledger: it may be deleted and is written again.",
            "",
        ]
        lines.append(
            f"**{written} of {total} candidates shown**"
            + (f", {total - written} left out so far." if written < total else ".")
        )
        if self._selection.every > 1:
            lines.append(f"Shown are {self._words()}. All candidates are in `ledger.db` and in the report.")
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
        lines += self._models.table(finals)
        if self._about["base"]:
            base = [f"| {plain(name)} | {number(value)} |" for name, value in self._about["base"].items()]
            lines += ["", "| metric | base model |", "| --- | --- |", *base]
        if self._about.get("parameters"):
            watched = self._about.get("monitor") or self._about["objectives"][0]["metric"]
            lines.append(f"The curves show {code(watched)}.")
        lines += [
            "",
            *(
                f"- constraint {code(c['text'])}: limit {number(c['limit'])}"
                for c in self._about["constraints"]
            ),
        ]
        if self._parameters.left_out:
            lines.append(f"- {self._parameters.left_out} more parameters are in the ledger only")
        if self._selection.every > 1:
            lines.append("- a trial's number is not its candidate's here; its attribute `candidate` is")
        ending = Ending.read(self._store.note)
        lines += [f"- the search ended: {plain(str(ending))}"] if ending else []
        return "\n".join(lines)

    def _told_shown(self) -> str:
        written, total = len(self._study.trials), self._store.last_seq
        return f"the Optuna view shows {written:,} of {total:,} trials: {self._words()}"

    def _words(self) -> str:
        """Name what is shown of a run that is too large to be shown whole."""
        every = self._selection.every
        front = "the front" if len(self._front) <= self._selection.most // 2 else "a part of the front"
        return f"{front}, the finished ones, the newest {NEWEST} at the end, and every {every}th one"

    def _member(self, row: EvaluationRow, final: Mapping[str, Any] | None) -> str:
        base, metrics, candidate = self._about["base"], row.metrics, row.candidate
        lines = [f"{MEMBER}: candidate {candidate.id}", ""]
        if base:
            lines += ["| metric | value | base model |", "| --- | --- | --- |"]
            lines += [
                f"| {plain(name)} | {number(value)} | {number(base[name]) if name in base else ''} |"
                for name, value in metrics.items()
            ]
        else:
            lines += [
                "| metric | value |",
                "| --- | --- |",
                *(f"| {plain(name)} | {number(value)} |" for name, value in metrics.items()),
            ]
        parents = ", ".join(map(str, candidate.parents))
        lines += ["", f"From {code(candidate.operator)}" + (f" of {parents}." if parents else ".")]
        return "\n".join([*lines, *(self._models.of(final) if final else [])])


class _Unsynced(JournalFileBackend):
    """A journal that nobody else reads yet: written without waiting for the disk."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with open(self._file_path, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
