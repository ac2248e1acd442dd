"""Pruning while training: chains of candidates from the base model to the smallest, each going on from the
one before.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evaluators.base import Candidate, Evaluation, State
from operators.mutation import Pruning, RemovalPruning
from search.ask_and_tell import evaluation_of, plain_evaluation
from search.problem import Problem
from search.strategies.parts import Parts
from search.strategy import Strategy
from spaces.errors import InputError, require

_AGAIN = 2
"""A round of which all failed is tried again so often."""


@dataclass(eq=False)
class _Line:
    """A chain: how many rounds it has gone, the candidate that it ends with, and of the round under way how
    many children there are and which came; `failed` counts how often in a row a round gave no parent."""

    rounds: int = 0
    failed: int = 0
    latest: Evaluation | None = None
    open: int = 0
    came: list[Evaluation] = field(default_factory=list)


class PruningLines(Strategy):
    """Lines from the base model to the smallest, each candidate its predecessor's child by one pruning
    mutation. [O]

    With :class:`evaluators.InheritedTraining` every candidate goes on from the weights that its predecessor
    ended with, so what is pruned has been trained, and every size on the way is a candidate for the front
    (gradual pruning, as in Zhu and Gupta 2017, arXiv 1710.01878, by channels). `cost` falls in equal ratios
    to `smallest` of the base model's; a round makes up for what the last one fell short of.
    The next round of a line is asked when the last one has been told, or the same once more, with other
    seeds, where all failed; several lines keep as many workers busy.

    As models become cheap a round tries several children, of which the best in the first objective (of those
    that are feasible as far as possible) is the parent of the next: ``share ** -growth``, at most `brood`, at
    this share of the base model's cost. The first of them is pruned without the mutation's noise, and so is
    an only child, but where there are several lines, which are to differ.

    Args:
        lines: how many; they differ by their seeds, and by what the mutation draws.
        rounds: of pruning.
        smallest: share of the base model's cost that the last round leaves.
        cost: the screened metric that falls; the arrays ``cost`` and ``removal`` of the evaluations tell what
            goes with a channel.
        brood: most children of a round.
        growth: power of the share; 0: every round has one child.
        mutation: a pruning mutation whose needs the evaluations' arrays or the problem's guide meet; its
            amount is set by the round.
        more: rounds at most that follow the last one as long as more than `smallest` is left, because groups
            are counted in multiples or cannot go as a whole; null: none.

    Raises:
        InputError: a setting out of its range; at the start: a space without a base model, a cost that is not
            screened.
    """

    later_arguments = ("more",)

    def __init__(
        self,
        lines: int = 1,
        rounds: int = 30,
        smallest: float = 0.003,
        cost: str = "macs",
        brood: int = 8,
        growth: float = 0.0,
        mutation: Pruning | None = None,
        more: int | None = None,
    ) -> None:
        require(
            "PruningLines",
            (lines >= 1, f"lines {lines}; expected at least 1"),
            (rounds >= 1, f"rounds {rounds}; expected at least 1"),
            (brood >= 1, f"brood {brood}; expected at least 1"),
            (0 < smallest < 1, f"smallest {smallest}; expected a share above 0 and below 1"),
            (growth >= 0, f"growth {growth}; expected at least 0"),
            (more is None or more >= 1, f"more {more}; expected at least 1 or null"),
        )
        self.more = more
        self.lines, self.rounds, self.smallest, self.cost = lines, rounds, smallest, cost
        self.brood, self.growth = brood, growth
        self.mutation = mutation or RemovalPruning()

    def start(self, problem: Problem, seed: int) -> None:
        super().start(problem, seed)
        if problem.space.base is None:
            raise InputError(
                f"PruningLines: {type(problem.space).__name__} has no base model; expected a space of masks"
            )
        if self.cost not in problem.evaluator.screened:
            accepted = ", ".join(problem.evaluator.screened) or "none"
            raise InputError(f"PruningLines: cost {self.cost!r} is not screened; expected one of {accepted}")
        self._parts = Parts([self.mutation])
        self._open: dict[int, _Line] = {}
        self._wanted: deque[tuple[_Line, np.ndarray]] = deque()
        for _ in range(self.lines):
            line = _Line(open=1)
            self._wanted.append((line, problem.space.base))

    @property
    def waiting(self) -> bool:
        return bool(self._open)

    def heirs(self) -> set[int]:
        waiting = (line for line, _ in self._wanted)
        return {
            e.candidate.id
            for line in (*self._open.values(), *waiting)
            for e in (*line.came, line.latest)
            if e is not None
        }

    def state(self) -> dict[str, Any] | None:
        if (parts := self._parts.state()) is None:
            return None
        # a line stands under several candidates: each is told once, the others say which it is
        lines = list(
            {id(line): line for line in (*self._open.values(), *(line for line, _ in self._wanted))}.values()
        )
        place = {id(line): number for number, line in enumerate(lines)}
        return self._counters() | {
            "parts": parts,
            "lines": [
                {
                    "rounds": line.rounds,
                    "failed": line.failed,
                    "latest": None if line.latest is None else plain_evaluation(line.latest),
                    "open": line.open,
                    "came": [plain_evaluation(e) for e in line.came],
                }
                for line in lines
            ],
            "open": [[candidate, place[id(line)]] for candidate, line in self._open.items()],
            "wanted": [[place[id(line)], genome] for line, genome in self._wanted],
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._parts.restore(state["parts"])
        lines = [
            _Line(
                line["rounds"],
                line["failed"],
                None if line["latest"] is None else evaluation_of(line["latest"]),
                line["open"],
                [evaluation_of(e) for e in line["came"]],
            )
            for line in state["lines"]
        ]
        self._open = {candidate: lines[number] for candidate, number in state["open"]}
        self._wanted = deque((lines[number], genome) for number, genome in state["wanted"])
        self._set_counters(state)

    def ask(self, n: int) -> list[Candidate]:
        asked: list[Candidate] = []
        while self._wanted and len(asked) < n:
            line, genome = self._wanted.popleft()
            if line.latest is None:
                candidate = self._candidate(genome.copy(), operator="base")
            else:
                candidate = self._candidate(genome, (line.latest.candidate.id,), type(self.mutation).__name__)
            self._open[candidate.id] = line
            asked.append(candidate)
        return asked

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        for evaluation in evaluations:
            line = self._open.pop(evaluation.candidate.id)
            line.came.append(evaluation)
            if len(line.came) == line.open:
                self._next(line)

    def _next(self, line: _Line) -> None:
        """End a line's round; where one of its children can be a parent, begin the next."""
        alive = [
            e for e in line.came if e.state is State.COMPLETE and np.isfinite(self.problem.values([e])).all()
        ]
        line.came = []
        line.failed = 0 if alive else line.failed + 1
        if not alive:
            if line.latest is not None and line.failed <= _AGAIN:  # as other candidates, with other seeds
                self._go(line, self._children(line.latest, line.rounds))
            return  # else the line has broken off
        # the least violation first, then the best first objective
        violations, values = self.problem.violations(alive), self.problem.values(alive)[:, 0]
        line.latest = alive[int(np.lexsort((values, violations))[0])]
        while line.rounds < self.rounds + (self.more or 0):
            line.rounds += 1
            children = self._children(line.latest, line.rounds)
            if children:
                self._go(line, children)
                # else it is small enough for this round already, or all that could go has to stay: the next
                # asks for more
                return

    def _go(self, line: _Line, children: Sequence[np.ndarray]) -> None:
        line.open = len(children)
        self._wanted.extend((line, child) for child in children)

    def _children(self, parent: Evaluation, rounds: int) -> list[np.ndarray]:
        """Return the different genomes of a round."""
        share = self.smallest ** min(1.0, rounds / self.rounds)
        count = max(1, min(self.brood, round(share**-self.growth)))
        pruned = [
            self._pruned(parent, share, quiet=not number and (count > 1 or self.lines == 1))
            for number in range(count)
        ]
        different = {
            child.tobytes(): child for child in pruned if not np.array_equal(child, parent.candidate.genome)
        }
        return list(different.values())

    def _pruned(self, parent: Evaluation, share: float, quiet: bool) -> np.ndarray:
        genome, base = parent.candidate.genome, self.problem.space.base
        assert base is not None
        cost, whole = self.problem.evaluator.screen(np.stack([genome, base]))[self.cost]
        if share * whole >= cost:
            return genome
        mutation = self.mutation.quiet() if quiet else copy.copy(self.mutation)
        mutation.amount = 1 - share * float(whole) / float(cost)
        guide = dict(self.problem.guide)
        guide |= {name: array for name, array in parent.arrays.items() if array.shape == genome.shape}
        return mutation(self.problem.space, genome[None], guide, self.rng)[0]
