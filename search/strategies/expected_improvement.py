"""Children are chosen by how much they may improve the front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import moocore
import numpy as np
from threadpoolctl import ThreadpoolController

from evaluators.base import Candidate, Evaluation
from operators.mutation.growth import growing
from operators.selection import rank
from search.problem import Problem
from search.strategies.gaussian_process import GaussianProcess
from search.strategies.preselection import Preselection
from search.strategies.proposals import Draw, Proposal, stacked
from search.strategies.rank_correlation import normal_scores
from spaces.errors import require
from spaces.lazy import LazyModule

special: Any = LazyModule("scipy.special")


class ExpectedImprovement(Preselection):
    """Proposes those of many children from which the largest improvement is to be expected. [O] of known
    parts.

    A :class:`~search.strategies.gaussian_process.GaussianProcess` over the genome's loci predicts the normal
    scores of every objective (the rank transformation of copula models, Salinas et al. 2020 [P]). With one
    objective the improvement of the best is expected in closed form (Jones et al. 1998 [P]); with several
    that of the front's hypervolume, by random directions (Zhang and Golovin 2020 [P]) and draws from the
    predictions. What neighbours do not tell, the noise of the model, counts as uncertainty of a genome:
    evaluations repeat themselves, so good luck stays. What is being evaluated counts as known to have its
    expected values; so many workers ask for different things (Desautels et al. 2014 [P]).

    It is made for few choices that mean much: hyper-parameters, operations, widths; masks of hundreds of
    channels have more loci than results.

    Args:
        pool: children that the choice is among.
        remembered: results that the model is fitted to: the better half of what there is, and others by
            chance; those of after the last fit are added.
        begin: results before which nothing is chosen.
    """

    def __init__(self, pool: int = 512, remembered: int = 400, begin: int = 10) -> None:
        require(
            "ExpectedImprovement",
            (pool >= 2, f"pool {pool}; expected at least 2"),
            (remembered >= 10, f"remembered {remembered}; expected at least 10"),
            (begin >= 2, f"begin {begin}; expected at least 2"),
        )
        self.pool, self.remembered, self.begin = pool, remembered, begin

    def start(self, problem: Problem, rng: np.random.Generator) -> None:
        super().start(problem, rng)
        space = problem.space
        ordered = np.zeros(space.length, dtype=bool)
        for part in growing(space):
            ordered[part] = True
        self._models = [GaussianProcess(space.choices, ordered) for _ in problem.objectives]
        self._genomes: list[np.ndarray] = []  # told, and
        self._values: list[np.ndarray] = []  # the objectives with the violation behind them
        self._open: dict[int, np.ndarray] = {}  # asked, not told
        self._keys: set[bytes] = set()  # of all that were asked
        self._rows: list[int] = []  # of what was told, what the models know
        self._next = 0  # results at which they are fitted again

    def over(self, children: Draw, samples: Draw) -> Draw:
        def draw(n: int) -> list[Proposal]:
            if len(self._genomes) < self.begin:
                return children(n)
            drawn = [*children(self.pool - self.pool // 4), *samples(self.pool // 4)]
            pool = self._fresh(drawn)
            if len(pool) <= n:
                return children(n)
            # with another number of threads the sums of BLAS, and with them the choice, may be others
            with _blas().limit(limits=1, user_api="blas"):
                return self._chosen(pool, n)

        return draw

    def asked(self, candidates: Sequence[Candidate]) -> None:
        for candidate in candidates:
            self._open[candidate.id] = candidate.genome
            self._keys.add(self._key(candidate.genome[None])[0])

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        values, violations = self.problem.values(evaluations), self.problem.violations(evaluations)
        for evaluation, row, violation in zip(evaluations, values, violations, strict=True):
            known = self._open.pop(evaluation.candidate.id, None)
            if known is not None:
                self._rows.append(len(self._genomes))
                self._genomes.append(known)
                self._values.append(np.r_[row, violation])

    def state(self) -> dict[str, Any]:
        length = self.problem.space.length
        return {
            "genomes": stacked(self._genomes, length),
            "values": np.array(self._values).reshape(-1, len(self._models) + 1),
            "open": {"ids": [*self._open], "genomes": stacked(self._open.values(), length)},
            "theta": [model.theta for model in self._models],
            "rows": self._rows,
            "next": self._next,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._genomes, self._values = [*state["genomes"]], [*state["values"]]
        self._open = dict(zip(state["open"]["ids"], state["open"]["genomes"], strict=True))
        everything = [*self._genomes, *self._open.values()]
        self._keys = set(self._key(stacked(everything, self.problem.space.length)))
        for model, theta in zip(self._models, state["theta"], strict=True):
            model.theta = np.asarray(theta)
        self._rows, self._next = [*state["rows"]], state["next"]

    def _key(self, genomes: np.ndarray) -> list[bytes]:
        return [row.tobytes() for row in self.problem.space.canonical(genomes)]

    def _fresh(self, drawn: Sequence[Proposal]) -> list[Proposal]:
        """Return those that were not asked, each once, and the feasible ones where limits can be screened."""
        found: dict[bytes, Proposal] = {}
        for key, proposal in zip(self._key(np.stack([p.genome for p in drawn])), drawn, strict=True):
            if key not in self._keys:
                found.setdefault(key, proposal)
        pool = [*found.values()]
        if self.problem.constraints and self.problem.evaluator.screened and pool:
            violation = self.problem.violation(
                self.problem.evaluator.screen(np.stack([p.genome for p in pool]))
            )
            pool = [p for p, excess in zip(pool, violation, strict=True) if excess == 0] or pool
        return pool

    def _chosen(self, pool: Sequence[Proposal], n: int) -> list[Proposal]:
        """Return `n` of the pool, one after another: what is chosen counts as asked."""
        front = self._learn()
        points = self._models[0].embed(np.stack([proposal.genome for proposal in pool]))
        predictions = [model.predict(points) for model in self._models]
        left = np.ones(len(pool), dtype=bool)
        chosen: list[Proposal] = []
        while True:
            means = np.stack([prediction.means for prediction in predictions], axis=1)
            spreads = np.sqrt(np.stack([prediction.variances for prediction in predictions], axis=1))
            worth = np.where(left, expected_improvement(means, spreads, front, self.rng), -1.0)
            row = int(np.argmax(worth))
            left[row] = False
            chosen.append(pool[row])
            if len(chosen) == n:
                return chosen
            for prediction in predictions:
                prediction.believe(row)

    def _learn(self) -> np.ndarray:
        """Bring the models up to what was told; return the scores ``(n, objectives)`` of the front."""
        told = len(self._genomes)
        if again := told >= self._next or len(self._rows) > _MOST * self.remembered:
            self._rows = self._remember()
            self._next = math.ceil(told * _GROWTH)
        table = np.stack([self._values[row] for row in self._rows])
        values, violations = table[:, :-1], table[:, -1]
        ceiling = values[np.isfinite(values).all(axis=1)].max(axis=0, initial=0.0)
        # what breaks a limit is worse than all that keeps it, the more the further
        values = np.where(violations[:, None] > 0, ceiling + violations[:, None], values)
        scores = np.stack([normal_scores(column) for column in values.T], axis=1)
        points = self._models[0].embed(np.stack([self._genomes[row] for row in self._rows]))
        pending = self._models[0].embed(stacked(self._open.values(), self.problem.space.length))
        for model, column in zip(self._models, scores.T, strict=True):
            if again:
                lesson = self.rng.permutation(len(column))[:_LESSON]
                model.fit(points[lesson], column[lesson])
            model.condition(points, column, pending)
        return scores[moocore.is_nondominated(scores, maximise=False, keep_weakly=False)]

    def _remember(self) -> list[int]:
        """Return which results the models are fitted to."""
        told = len(self._genomes)
        if told <= self.remembered:
            return [*range(told)]
        table = np.stack(self._values)
        ranks, _ = rank(table[:, :-1], table[:, -1])
        order = np.argsort(ranks, kind="stable") if table.shape[1] > 2 else np.lexsort(table.T)
        better, others = np.split(order, [self.remembered // 2])
        drawn = self.rng.choice(others, self.remembered - len(better), replace=False)
        return sorted([*better.tolist(), *drawn.tolist()])


@cache
def _blas() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401  the controller knows what is loaded by then

    return ThreadpoolController()


def expected_improvement(
    means: np.ndarray, spreads: np.ndarray, front: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return by how much each of some candidates may be expected to improve a front, ``(n,)``.

    Args:
        means: predicted objectives ``(n, m)``, to be minimised.
        spreads: their standard deviations.
        front: objectives ``(k, m)`` of what is not dominated.
        rng: draws directions and outcomes, where there are several objectives.
    """
    if means.shape[1] == 1:
        gap = front.min() - means[:, 0]
        ratio = gap / spreads[:, 0]
        density = np.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
        improvement: np.ndarray = gap * special.ndtr(ratio) + spreads[:, 0] * density
        return improvement
    reference = front.max(axis=0) + 0.1 * np.ptp(front, axis=0) + 0.1
    directions = np.abs(rng.standard_normal((_DIRECTIONS, means.shape[1])))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    reached = _along(reference - front, directions).max(axis=0)
    improvement = np.zeros(len(means))
    for _ in range(_OUTCOMES):
        outcome = means + spreads * rng.standard_normal(means.shape)
        improvement += np.maximum(_along(reference - outcome, directions) - reached, 0).mean(axis=1)
    return improvement / _OUTCOMES


def _along(gains: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Return how much of the hypervolume points ``(n, m)`` reach in every direction, ``(n, directions)``, up
    to a constant factor.
    """
    lengths = np.full((len(gains), len(directions)), np.inf)
    for gain, direction in zip(np.maximum(gains, 0).T, directions.T, strict=True):
        np.minimum(lengths, gain[:, None] / direction, out=lengths)
    reached: np.ndarray = lengths ** gains.shape[1]
    return reached


_GROWTH, _MOST = 1.15, 1.5  # models are fitted again when there is so much more, or they know so many
_LESSON = 200  # results that hyper-parameters are fitted to
_DIRECTIONS, _OUTCOMES = 64, 8
