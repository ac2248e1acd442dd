"""Candidates that race: each is sent off with the members of the front that may beat it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from hashlib import blake2b

import numpy as np

from evaluators.base import Candidate, Evaluation, Evaluator, State
from evaluators.racing import LOSSES, MOST, Rivals
from search.executors.around import Around
from search.executors.base import Event, Executor, Finished, Reported
from search.front import Front
from search.problem import Objective, Problem
from search.record.ledger import Ledger
from spaces.errors import InputError

RACE_NOTE = "race"
"""Name in the ledger of whom the unfinished candidates are held against."""


def raced_objective(evaluator: Evaluator, objectives: Sequence[Objective]) -> Objective | None:
    """Return the objective that candidates race for; None where the evaluator lets none race.

    Raises:
        InputError: not exactly one objective is measured, or it is no mean over samples.
    """
    if not evaluator.raced:
        return None
    measured = [one for one in objectives if one.metric not in evaluator.screened]
    if len(measured) != 1 or measured[0].metric not in evaluator.raced:
        found = ", ".join(one.metric for one in measured) or "none"
        raise InputError(
            f"evaluator Quality: race: the objectives that are measured are {found}; expected one, a "
            f"mean over samples ({', '.join(evaluator.raced)}), and others only of what is known without "
            f"evaluation"
            f"{f' ({known})' if (known := ', '.join(evaluator.screened)) else ''}"
        )
    return measured[0]


def racing(executor: Executor, problem: Problem, ledger: Ledger, front: Callable[[], Front]) -> Executor:
    """Return an executor that lets candidates race, where the evaluator does; else the very same.

    Args:
        front: gives the front as it is.

    Raises:
        InputError: the objectives do not suit a race.
    """
    goal = raced_objective(problem.evaluator, problem.objectives)
    return executor if goal is None else Racing(executor, problem, goal, ledger, front)


class Racing(Around):
    """An executor around an executor: a candidate is held against members of the front as it was when the
    candidate was asked. [O]

    So what comes of a candidate depends on what was told before it was asked, and neither on workers nor on
    time. Whom it is held against is in the ledger until it is evaluated, and the losses of what may come onto
    the front stay there, a number of four bytes a sample.

    Args:
        inner: evaluates.
        problem: gives the goals.
        goal: the objective that is raced.
        ledger: keeps losses and rivals; whoever asks for events commits them.
        front: gives the front as it is.
    """

    def __init__(
        self,
        inner: Executor,
        problem: Problem,
        goal: Objective,
        ledger: Ledger,
        front: Callable[[], Front],
    ) -> None:
        super().__init__(inner)
        self._problem, self._goal, self._ledger, self._front = problem, goal, ledger, front
        self._known = [place for place, one in enumerate(problem.objectives) if one != goal]
        self._raced = problem.objectives.index(goal)
        self._losses: dict[int, np.ndarray] = {}
        self._open: dict[str, list[int]] = ledger.note(RACE_NOTE) or {}

    def submit(self, candidates: Sequence[Candidate]) -> None:
        for candidate, ids in zip(candidates, self._choose(candidates), strict=True):
            self._open.setdefault(_key(candidate), ids)
        self._ledger.save_note(RACE_NOTE, self._open)
        members = {member.candidate.id for member in self._front().members}
        self._losses = {id: losses for id, losses in self._losses.items() if id in members}
        together: dict[tuple[int, ...], Rivals] = {}
        sent = []
        for candidate in candidates:
            chosen = tuple(self._open[_key(candidate)])
            if chosen not in together:
                together[chosen] = self._rivals(chosen)
            sent.append(replace(candidate, rivals=together[chosen]))
        self.inner.submit(sent)

    def events(self, timeout: float | None = None) -> list[Event]:
        events = [self._without_losses(event) for event in self.inner.events(timeout)]
        if any(isinstance(event, Finished) for event in events):
            self._ledger.save_note(RACE_NOTE, self._open)
        return events

    def _choose(self, candidates: Sequence[Candidate]) -> list[list[int]]:
        """Return for each candidate the best of those members of the front that are no worse in what is
        known.
        """
        front, evaluator = self._front(), self._problem.evaluator
        genomes = np.stack([candidate.genome for candidate in candidates])
        screened = evaluator.screen(genomes)
        own, values = np.zeros((len(candidates), len(self._known))), front.values
        for column, place in enumerate(self._known):
            goal = self._problem.objectives[place]
            own[:, column] = (-1 if goal.maximise else 1) * screened[goal.metric]
        best = np.argsort(values[:, self._raced], kind="stable")
        chosen = []
        for row in own:
            fit = best[(values[best][:, self._known] <= row).all(axis=1)]
            ids = (front.members[place].candidate.id for place in fit)
            chosen.append([id for id in ids if self._lost(id) is not None][:MOST])
        return chosen

    def _rivals(self, ids: Iterable[int]) -> Rivals:
        found = {id: losses for id in ids if (losses := self._lost(id)) is not None}
        rivals = Rivals(self._goal.metric, self._goal.maximise)
        if not found:
            return rivals
        rivals = replace(rivals, ids=tuple(found), losses=np.stack([*found.values()]))
        low = rivals.losses.min(axis=1)
        if (below := low < rivals.least - 1e-4).any():
            beyond = "above 1" if rivals.maximise else "below 0"
            raise InputError(
                f"evaluator Quality: race: {self._goal.metric} of candidate {rivals.ids[below.argmax()]} is "
                f"{rivals.sign * low.min():g} on a sample; expected a metric that is never {beyond}, or race "
                f"null"
            )
        return rivals

    def _lost(self, id: int) -> np.ndarray | None:
        """Return the losses of a candidate on all samples; None where they are not known."""
        if id not in self._losses:
            found = self._ledger.load_arrays(_name(id))
            if found is None:
                return None
            self._losses[id] = found[LOSSES]
        return self._losses[id]

    def _without_losses(self, event: Event) -> Event:
        if isinstance(event, Finished):
            return Finished(self._taken(event.evaluation))
        if isinstance(event, Reported):
            arrays = {name: array for name, array in event.report.arrays.items() if name != LOSSES}
            return replace(event, report=replace(event.report, arrays=arrays))
        return event

    def _taken(self, evaluation: Evaluation) -> Evaluation:
        """Keep the losses of what may come onto the front; return the evaluation without them."""
        arrays, candidate = dict(evaluation.arrays), replace(evaluation.candidate, rivals=None)
        losses = arrays.pop(LOSSES, None)
        self._open.pop(_key(candidate), None)
        if losses is not None and self._may_join(evaluation):
            self._ledger.save_arrays(_name(candidate.id), {LOSSES: losses})
        return replace(evaluation, candidate=candidate, arrays=arrays)

    def _may_join(self, evaluation: Evaluation) -> bool:
        if evaluation.state is not State.COMPLETE or self._problem.violations([evaluation])[0] > 0:
            return False
        return bool(self._front().beyond(self._problem.values([evaluation]))[0])


def _name(id: int) -> str:
    """Return what the losses of a candidate are called in the ledger."""
    return f"race {id}"


def _key(candidate: Candidate) -> str:
    """Return what its rivals are called: another candidate may get its id where failures are undone."""
    return f"{candidate.id} {blake2b(candidate.genome.tobytes(), digest_size=8).hexdigest()}"
