"""The plan of a run before it begins: what can be pruned, what cannot and why, how far, and for how long."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from evaluators.base import Candidate, State
from search.ask_and_tell import candidate_seed
from search.budget import Budget
from search.executors.base import Finished, Reported
from search.executors.work import evaluate
from search.numbers import number
from search.problem import Problem
from search.progress import duration
from search.setup.limits import Attainable
from spaces.base import Space, Trained

_TIMED = 5
"""Candidates that are evaluated to know how long one takes; the first one warms up and does not count."""


@dataclass(frozen=True)
class RunPlan:
    """A run that has not been run. Printed with rich it is a few tables.

    Attributes:
        segments: name -> number of loci.
        members: segment -> the parameter axes it slices, where the space tells.
        frozen: axis, reason and line of the source of everything that cannot be pruned.
        notes: other remarks of the space.
        base: cost of the base model.
        smallest: cost of the smallest genome, each metric on its own.
        attainable: what can be reached, constraint by constraint.
        candidate_seconds: median time of an evaluation in one process.
        workers: how many candidates are worked on at once.
        budget: when the search ends.
        parameters: of a hyper-parameter search, and what values they take.
    """

    segments: dict[str, int]
    members: dict[str, list[str]]
    frozen: list[dict[str, str]]
    notes: list[str]
    base: dict[str, float]
    smallest: dict[str, float]
    attainable: list[Attainable]
    candidate_seconds: float
    workers: int
    budget: Budget
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        """Estimate of the search's time, without training the base model and without fine-tuning; None where
        nothing bounds it.
        """
        times = [] if self.budget.seconds is None else [self.budget.seconds]
        if self.budget.evaluations is not None:
            times.append(self.budget.evaluations * self.candidate_seconds / self.workers)
        return min(times) if times else None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._parameters() if self.parameters else self._groups()
        if self.frozen:
            frozen = Table(
                "axis", "reason", "where", title=f"{len(self.frozen)} frozen axes", title_justify="left"
            )
            for row in self.frozen:
                frozen.add_row(*(escape(row[name]) for name in ("axis", "reason", "where")))
            yield frozen
        for note in self.notes:
            yield Text(f"note: {note}")
        if self.base or self.smallest:
            reach = Table(
                "metric", "base model", "smallest reachable", "share", title="reach", title_justify="left"
            )
            for name, least in self.smallest.items():
                base = self.base.get(name)
                reach.add_row(
                    escape(name),
                    "" if base is None else number(base),
                    number(least),
                    f"{least / base:.1%}" if base else "",
                )
            yield reach
        for found in self.attainable:
            yield Text(f"{found.constraint}: within reach, limit {number(found.limit)}; {found}")
        yield Text(self.estimate)

    def _groups(self) -> Table:
        title = f"{len(self.segments)} groups, {sum(self.segments.values())} channels"
        groups = Table("group", "channels", "members", title=title, title_justify="left")
        for name, size in self.segments.items():
            groups.add_row(escape(name), str(size), escape(" ".join(self.members.get(name, []))))
        return groups

    def _parameters(self) -> Table:
        table = Table("parameter", "values", title=f"{len(self.parameters)} parameters", title_justify="left")
        for name, values in self.parameters.items():
            table.add_row(escape(name), escape(values))
        return table

    @property
    def estimate(self) -> str:
        """The time estimate in words."""
        what = f"{number(self.candidate_seconds * 1e3, digits=3)} ms a candidate, {self.workers} at once"
        if self.seconds is None:
            return f"time: {what}; the budget gives no end in time"
        count = "" if self.budget.evaluations is None else f"{self.budget.evaluations} evaluations: "
        end = "if no trial is stopped" if self.parameters else "then fine-tuning"
        return f"time: {count}about {duration(max(self.seconds, 1))} ({what}), {end}"


def make_plan(
    problem: Problem,
    base: Mapping[str, float],
    smallest: Mapping[str, float],
    found: Sequence[Attainable],
    workers: int,
    budget: Budget,
    seed: int,
    seconds: float | None = None,
    device: str = "cpu",
) -> RunPlan:
    """Describe the run.

    Args:
        seconds: that a candidate takes; None: a few are evaluated in this process.
        device: where they are.
    """
    report = problem.space.report()
    return RunPlan(
        {segment.name: segment.size for segment in problem.space.segments},
        {group["name"]: list(group["members"]) for group in report.get("groups", [])},
        list(report.get("frozen", [])),
        list(report.get("notes", [])),
        dict(base),
        dict(smallest),
        list(found),
        _seconds(problem, seed, device) if seconds is None else seconds,
        workers,
        budget,
        parameters_of(problem.space),
    )


def parameters_of(space: Space) -> dict[str, str]:
    """Return the parameters of a trial space with their values in words; empty for other spaces."""
    return (
        {name: _values(distribution) for name, distribution in space.distributions.items()}
        if isinstance(space, Trained)
        else {}
    )


def _values(distribution: Any) -> str:
    if hasattr(distribution, "choices"):
        return ", ".join(map(str, distribution.choices))
    step = f", step {distribution.step:g}" if distribution.step not in (None, 1) else ""
    return f"{distribution.low:g} to {distribution.high:g}{', log' if distribution.log else ''}{step}"


def _seconds(problem: Problem, seed: int, device: str) -> float:
    """Median wall time of an evaluation of random candidates; failed ones count, they take time as well.

    Of a training, which says its epochs, two epochs are timed, of which the first one warms up.
    """
    epochs = problem.evaluator.epochs or 1
    if isinstance(problem.space, Trained) and epochs > 1:
        return epochs * _epoch_seconds(problem, seed, device)
    genomes = problem.space.sample(_TIMED, np.random.default_rng(seed))
    times = []
    for id, genome in enumerate(genomes):
        start = time.perf_counter()
        for event in evaluate(
            problem.space,
            problem.evaluator,
            Candidate(id, genome, seed=candidate_seed(seed, id)),
            device=device,
        ):
            if isinstance(event, Finished) and event.evaluation.state is State.COMPLETE:
                break
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


def _epoch_seconds(problem: Problem, seed: int, device: str) -> float:
    """Median wall time of the second epoch of random candidates."""
    times = []
    for id, genome in enumerate(problem.space.sample(_TIMED, np.random.default_rng(seed))):
        start = 0.0
        for event in evaluate(
            problem.space,
            problem.evaluator,
            Candidate(id, genome, seed=candidate_seed(seed, id)),
            device=device,
        ):
            # reports before the first epoch are of other evaluators
            step = event.report.step if isinstance(event, Reported) else 0
            if step == 1:
                start = time.perf_counter()
            elif step == 2:
                times.append(time.perf_counter() - start)
                break
    return float(np.median(times)) if times else 0.0
