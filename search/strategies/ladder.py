"""A ladder of fidelities within evolution: all candidates are looked at briefly, the best are trained on."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evaluators.base import Evaluation
from operators.selection import rank
from search.problem import Problem
from search.strategies.monitor import Monitor
from search.strategies.proposals import Proposal
from search.strategies.rank_correlation import RankCorrelation, rank_correlation
from spaces.errors import InputError, require

PROMOTED = "promoted"
"""Operator of a candidate that is its parent once more, trained on."""


@dataclass(eq=False)
class _Climber:
    """A candidate on its way up: its genome, and what each rung so far said of it (to be minimised)."""

    id: int
    genome: np.ndarray
    scores: list[float]


@dataclass(eq=False)
class _Cohort:
    """Results of a rung until it is full: candidates that may go on, their objective values and violations;
    `came` counts the others as well.
    """

    came: int = 0
    climbers: list[_Climber] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)
    violations: list[float] = field(default_factory=list)


class Ladder:
    """Successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943 [P]) without an end, beside
    evolution. [O]

    A new candidate stands on rung 0. Of every `cohort` told at a rung one in `eta` goes on: it is asked once
    more, as its own child, and the evaluator (:class:`evaluators.InheritedTraining` with a list of `steps`)
    trains it on from the weights that it ended with. Since children inherit weights as well, a candidate
    that is trained on becomes a better parent, and no training is spent twice. The best of a cohort are those
    of the lowest non-domination rank, feasible ones first, the less crowded before the others.

    Whether a rung predicts anything is measured while it is used: :attr:`correlations` holds what it said
    against what became of those that came to the top, as Kendall's rank correlation that is left when size is
    held fixed. Of the places `chance` are drawn from those that the rung did not choose, so that there is
    something to compare with. A rung that has not shown any correlation when 20 have come to the top lets
    all pass until it does.

    A cohort is decided when it is full, in the order in which results are told, so the run does not depend on
    the number of workers.

    Args:
        eta: of a cohort one in `eta` goes on.
        cohort: candidates among which a rung decides.
        chance: share of the places that are drawn, 0 to 1.
        monitor: what ranks in place of the first objective: ``METRIC``, ``max METRIC`` or a sum such as
            ``loss + tic_bias``.

    Raises:
        InputError: a setting out of its range; at the start: no evaluator with rungs, a monitor that is not
            reported.
    """

    def __init__(
        self, eta: int = 3, cohort: int = 24, chance: float = 0.125, monitor: str | None = None
    ) -> None:
        require(
            "Ladder",
            (eta >= 2, f"eta {eta}; expected at least 2"),
            (cohort >= eta, f"cohort {cohort}; expected at least eta ({eta})"),
            (0 <= chance <= 1, f"chance {chance}; expected 0 to 1"),
        )
        self.eta, self.cohort, self.chance = eta, cohort, chance
        self.monitor = Monitor(monitor) if monitor else None

    def start(self, problem: Problem, rng: np.random.Generator) -> None:
        """Receive the problem, before anything is told."""
        evaluator = problem.evaluator
        self.rungs = evaluator.rungs
        if self.rungs < 2:
            raise InputError(
                "Ladder: no evaluator has rungs; expected evaluators.InheritedTraining with a list of steps, "
                "such as [0, 16, 64]"
            )
        if self.monitor is not None:
            self.monitor.check("Ladder: monitor", (*evaluator.screened, *evaluator.metrics))
        self.problem, self.rng = problem, rng
        self._filling = [_Cohort() for _ in range(self.rungs - 1)]
        self._climbing: dict[int, _Climber] = {}  # promoted, by the id they had on the rung below
        self._due: deque[_Climber] = deque()
        # scores, value at the top, size
        self._arrived: deque[tuple[list[float], float, float]] = deque(maxlen=_REMEMBERED)

    def due(self, n: int) -> list[Proposal]:
        """Return at most `n` of those that are to go on."""
        going = [self._due.popleft() for _ in range(min(n, len(self._due)))]
        self._climbing |= {climber.id: climber for climber in going}
        return [Proposal(climber.genome, (climber.id,), PROMOTED) for climber in going]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Take in results, of rung 0 and of those that went on."""
        values, violations = self.problem.values(evaluations), self.problem.violations(evaluations)
        for evaluation, row, violation in zip(evaluations, values, violations, strict=True):
            candidate = evaluation.candidate
            climbed = (
                self._climbing.pop(candidate.parents[0], None) if candidate.operator == PROMOTED else None
            )
            before = climbed.scores if climbed is not None else []
            score = self.monitor(evaluation.metrics) if self.monitor is not None else float(row[0])
            fine = np.isfinite(row).all() and math.isfinite(violation) and math.isfinite(score)
            if len(before) < self.rungs - 1:
                climber = _Climber(candidate.id, candidate.genome, [*before, score]) if fine else None
                self._arrive(len(before), climber, row, float(violation))
            elif fine:
                self._arrived.append((before, float(row[0]), float(row[1]) if len(row) > 1 else 0.0))

    def state(self) -> dict[str, Any]:
        """Return cohorts, those on their way, and what came of those that arrived."""
        return {
            "filling": [
                {
                    "came": cohort.came,
                    "climbers": [_plain(climber) for climber in cohort.climbers],
                    "values": list(cohort.values),
                    "violations": cohort.violations,
                }
                for cohort in self._filling
            ],
            "climbing": [_plain(climber) for climber in self._climbing.values()],
            "due": [_plain(climber) for climber in self._due],
            "arrived": [list(arrived) for arrived in self._arrived],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._filling = [
            _Cohort(
                cohort["came"],
                [_Climber(**climber) for climber in cohort["climbers"]],
                list(cohort["values"]),
                list(cohort["violations"]),
            )
            for cohort in state["filling"]
        ]
        climbing = [_Climber(**climber) for climber in state["climbing"]]
        self._climbing = {climber.id: climber for climber in climbing}
        self._due = deque(_Climber(**climber) for climber in state["due"])
        arrived = ((scores, truth, size) for scores, truth, size in state["arrived"])
        self._arrived = deque(arrived, maxlen=_REMEMBERED)

    @property
    def ids(self) -> set[int]:
        """Of those that may still go on, or are about to."""
        standing = {climber.id for cohort in self._filling for climber in cohort.climbers}
        return standing | {climber.id for climber in self._due} | self._climbing.keys()

    @property
    def correlations(self) -> list[RankCorrelation]:
        """Of what each rung but the last said with what the last one did, over the latest 256 that
        came there.
        """
        scores = np.array([scores for scores, _, _ in self._arrived]).reshape(-1, self.rungs - 1)
        truth, size = (
            np.array(column) for column in ([a[1] for a in self._arrived], [a[2] for a in self._arrived])
        )
        return [rank_correlation(scores[:, rung], truth, size) for rung in range(self.rungs - 1)]

    def _arrive(self, rung: int, climber: _Climber | None, values: np.ndarray, violation: float) -> None:
        cohort = self._filling[rung]
        cohort.came += 1
        if climber is not None:
            cohort.climbers.append(climber)
            cohort.values.append(np.array([climber.scores[-1], *values[1:]]))
            cohort.violations.append(violation)
        if cohort.came == self.cohort:
            self._filling[rung] = _Cohort()
            self._due += [cohort.climbers[row] for row in self._chosen(rung, cohort)]

    def _chosen(self, rung: int, cohort: _Cohort) -> list[int]:
        """Return which go on, by their places in the cohort: the best first."""
        # a rung that has been used enough and predicts nothing does not choose
        n = len(cohort.climbers)
        known = self.correlations[rung]
        if n == 0 or (known.n >= _ENOUGH and not known.positive):
            return list(range(n))
        ranks, crowding = rank(np.stack(cohort.values), np.array(cohort.violations))
        order = np.lexsort((-crowding, ranks))
        # some places go to others at random, or the correlation would be measured on the best alone
        places = min(n, self.cohort // self.eta)
        drawn = round(self.chance * places)
        best, others = order[: places - drawn], order[places - drawn :]
        return [*best.tolist(), *self.rng.permutation(others)[:drawn].tolist()]


def _plain(climber: _Climber) -> dict[str, Any]:
    return {"id": climber.id, "genome": climber.genome, "scores": climber.scores}


_REMEMBERED, _ENOUGH = 256, 20
