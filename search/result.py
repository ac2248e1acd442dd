"""What a run found, for people and for programs that go on with it."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import nn

from evaluators.base import Evaluation
from evaluators.randomness import Randomness
from search.ending import Ending
from search.finish.export import base_of, export
from search.finish.finish import front_of
from search.finish.recipe import RECIPE, Recipe, load
from search.numbers import number, title
from search.problem import Problem
from search.record.about import About
from search.record.finals import Final, load_finals
from search.record.ledger import Ledger
from search.report import table
from search.report.advice import advise
from search.report.nothing_complete import nothing_complete
from search.report.nothing_feasible import nothing_feasible
from search.report.race_facts import RaceFacts
from search.report.trials import TrialRow, gather_trials, trials_table
from spaces.errors import InputError

if TYPE_CHECKING:
    import pandas
    import plotly.graph_objects as go

_FIRST = ("error", "macs", "bytes")
"""Metrics that are shown where there is room beside the goals."""


@dataclass(frozen=True, eq=False)
class Result:
    """What a run found.

    Attributes:
        front: the feasible non-dominated evaluations, the best in the first objective first.
        ending: why the search ended.
        counts: of candidates and evaluations, in every state.
        finals: the base model and those members of the front that were fine-tuned, exported and measured.
        problem: that was searched; its ``base`` has the metrics of the base model.
        about: the same as plain data.
        directory: of the run, None where it was kept in memory.
        complete: whether there was nothing left to do when the run was called.
        trials: of a hyper-parameter search, all of them in the order in which they were asked; else empty.
        complaint: why nothing came to its end, or nothing is within the limits, and what to change, in one
            sentence; empty where there is a front.
        race: what racing has saved, where candidates raced.
        keep: what lives as long as this does: the folder with the pairs of a coevolution in memory.
    """

    front: list[Evaluation]
    ending: Ending
    counts: dict[str, int]
    finals: list[Final]
    problem: Problem
    about: About
    directory: Path | None
    complete: bool = False
    trials: list[TrialRow] = field(default_factory=list)
    keep: object = field(default=None, repr=False)
    complaint: str = ""
    race: RaceFacts = field(default_factory=RaceFacts)

    @classmethod
    def read(
        cls, ledger: Ledger, problem: Problem, directory: Path | None, ending: Ending, complete: bool = False
    ) -> Result:
        """Make it of the ledger."""
        front, about = front_of(problem, ledger).members, About.load(ledger)
        trials = gather_trials(ledger, about, curves=False)
        return cls(
            front,
            ending,
            ledger.counts(),
            load_finals(ledger),
            problem,
            about,
            directory,
            complete,
            trials,
            complaint=nothing_complete(ledger) or ("" if front else nothing_feasible(ledger, about)),
            race=RaceFacts.of(ledger),
        )

    @property
    def reason(self) -> str:
        """Why the search ended, as text: ``evaluations``, ``seconds``, ``stall``, ``epochs``, ``exhausted``,
        ``steps``, ``interrupted``, ``failures: ...`` or ``disk full: ...``.
        """
        return str(self.ending)

    def table(self) -> str:
        """Return base model and front side by side, as plain text: fine-tuned and measured where that was
        done, else as searched.
        """
        if self.finals and not self.trials:
            return table.text(self.finals, self.about)
        page = Console(file=io.StringIO(), width=400, color_system=None)
        page.print(self._searched())
        if self.complaint:
            page.print(self.complaint, markup=False)
        assert isinstance(page.file, io.StringIO)
        return "\n".join(line.rstrip() for line in page.file.getvalue().splitlines()) + "\n"

    def show(self, console: Console | None = None) -> None:
        """Print the table, and the complaint where there is one; nothing where nothing was evaluated."""
        if not (self.counts["evaluations"] or self.finals):
            return
        console = console or Console()
        if self.finals and not self.trials:
            table.show(self.finals, self.about, console)
        elif self.trials and not console.is_terminal:
            console.file.write(self.table())
        else:
            console.print(self._searched())
            if self.complaint:
                console.print(self.complaint, markup=False)

    def to_pandas(self) -> pandas.DataFrame:
        """Return the front as a data frame, a member a row, by candidate: its metrics, and the test figures,
        costs and folder of what was exported; of a hyper-parameter search all trials with their parameters.

        Raises:
            InputError: pandas is not installed; it is in the ``notebook`` extra.
        """
        from search.report.notebook import data_frame

        return data_frame(self.front, self.finals, self.trials)

    def plot(self, cost: str | None = None) -> go.Figure:
        """Return a figure of plotly: the exported models on the test split over what they cost, the front as
        the search saw it where nothing was exported, or the objective over the trials.

        Args:
            cost: over which it is drawn, as ``"macs"`` or ``"latency_ms"``; None: the cost that the search
                was about.

        Raises:
            InputError: nothing has such a cost.
        """
        from search.report.notebook import figure

        return figure(self.front, self.finals, self.trials, self.about, cost)

    def _repr_html_(self) -> str:
        """What a notebook shows: the closing table, which model to take, and why."""
        from search.report.notebook import html_of

        if not self.finals or self.trials:
            return html_of("", self._searched(), [self.complaint])
        advice = advise(self.finals, self.about)
        rows = table.table(self.finals, self.about, advice)
        return html_of(advice.words if advice else "", rows, table.notes(self.finals))

    def build(self, member: int | Evaluation = 0) -> nn.Module:
        """Return the model of a member of the front (its place, or itself) as it was scored, in eval mode.

        It is evaluated once more, from the same seed.

        Raises:
            InputError: the front is empty; it says why.
        """
        candidate = self._member(member, "build").candidate
        with Randomness(candidate.seed):
            model = self.problem.space.build(candidate.genome)
            for _ in self.problem.evaluator.evaluate(model, candidate):
                # what an evaluator does to a model (recalibrated statistics, trained weights) is part of what
                # was scored
                pass
        return model.eval()

    def tuned(self, final: int | Final = 0) -> nn.Module:
        """Return a fine-tuned member of :attr:`finals` (its place, or itself), loaded from the files that
        were exported.

        Raises:
            InputError: it is the base model, or there are no files of it.
        """
        final = self.finals[final] if isinstance(final, int) else final
        if not final.folder or self.directory is None:
            raise InputError(
                f"{final.name}: was not exported{f' ({final.reason})' if final.reason else ''}; expected a "
                f"member of the front"
            )
        folder = self.directory / final.folder
        alleles = [int(allele) for part in Recipe.read(folder / RECIPE).genome.values() for allele in part]
        return load(folder, base_of(self.problem.space, np.array(alleles, dtype=np.uint8)))

    def export(self, folder: str | Path, member: int | Evaluation = 0) -> Recipe:
        """Write a member of the front as it was scored: recipe, weights and an ONNX file, each checked by
        running it.
        """
        evaluation = self._member(member, "export")
        space, data = self.problem.space, self.problem.evaluator.data
        if data is None:
            raise InputError("export: no data; expected data with an example of the inputs")
        model = self.build(evaluation)
        space, genome = space.finish(evaluation.candidate.genome, lambda: evaluation.arrays)
        base = base_of(space, genome)
        return export(
            Path(folder),
            evaluation.candidate.id,
            genome,
            model,
            space,
            data.example(),
            base=base,
            metrics=evaluation.metrics,
            card=(self.problem.base, evaluation.metrics),
        )

    def _member(self, member: int | Evaluation, doing: str) -> Evaluation:
        if isinstance(member, int) and not self.front:
            raise InputError(f"{doing}: {self.complaint or 'nothing was evaluated; expected a front'}")
        return self.front[member] if isinstance(member, int) else member

    def _searched(self) -> Table:
        if self.trials:
            return trials_table(self.trials, self.about, self.finals)
        base, members = self.problem.base, self.front
        goals = [o.metric for o in self.problem.objectives] + [c.metric for c in self.problem.constraints]
        known = base or (members[0].metrics if members else {})
        # as many as fit 80 columns: all of them are in front.csv
        names = list(dict.fromkeys((*goals, *(name for name in _FIRST if name in known), *known)))[:6]
        rows = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, header_style="bold")
        rows.add_column("model", no_wrap=True)
        for name in names:
            rows.add_column(escape("\n".join(title(name).split())), justify="right", no_wrap=True)
        columns = [("base model", base)] if base else []
        for label, metrics in [
            *columns,
            *((f"candidate {member.candidate.id}", member.metrics) for member in members),
        ]:
            rows.add_row(label, *(number(metrics[name], name) if name in metrics else "" for name in names))
        return rows
