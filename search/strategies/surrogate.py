"""A cheap model of earlier results that says which of many children are worth an evaluation, where it has
shown that it knows.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluators.base import Candidate, Evaluation
from operators.selection import rank
from search.problem import Problem
from search.strategies.preselection import Preselection
from search.strategies.proposals import Draw, Proposal
from search.strategies.rank_correlation import RankCorrelation, rank_correlation
from spaces.errors import require


class Surrogate(Preselection):
    """Draws `times` as many children as are wanted and proposes the most promising. [O]

    Extremely randomised trees (Geurts et al. 2006 [P], scikit-learn's) predict the first objective from the
    shares that a genome keeps of every segment, the screened metrics, and what its first parent had reached;
    other objectives are known where they are screened, else predicted in the same way. Of the children those
    of the lowest non-domination rank are proposed, the less crowded first.

    It has to earn this. Whatever is asked is predicted before it is evaluated, and only while these
    predictions and the outcomes of the latest 64 correlate in rank, size given, beyond chance, children are
    chosen; until then, and for the share `chance` always, they are proposed as they were drawn.

    Args:
        times: children drawn for one that is proposed.
        chance: share of the children that is proposed unseen, 0 to 1.
        trees: of the model.
    """

    def __init__(self, times: int = 4, chance: float = 0.25, trees: int = 50) -> None:
        require(
            "Surrogate",
            (times >= 2, f"times {times}; expected at least 2"),
            (0 <= chance <= 1, f"chance {chance}; expected 0 to 1"),
            (trees >= 1, f"trees {trees}; expected at least 1"),
        )
        self.times, self.chance, self.trees = times, chance, trees

    def start(self, problem: Problem, rng: np.random.Generator) -> None:
        super().start(problem, rng)
        self._known: dict[int, float] = {}  # the first objective of all that were told
        self._worst = 0.0
        # of those that were asked: their description, and what was predicted
        self._open: dict[int, tuple[np.ndarray, float]] = {}
        self._rows: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=_REMEMBERED)
        self._outcomes: deque[tuple[float, float, float]] = deque(maxlen=_JUDGED)  # predicted, came, size
        self._model: Any = None
        # what the model was fitted to, from which it can be fitted again: rows, values, seed
        self._lesson: tuple[np.ndarray, np.ndarray, int] | None = None
        self._fitted = 0

    @property
    def correlation(self) -> RankCorrelation:
        """Of predictions with outcomes, size given."""
        predicted, came, size = (
            (np.array(column) for column in zip(*self._outcomes, strict=True))
            if self._outcomes
            else [np.zeros(0)] * 3
        )
        return rank_correlation(predicted, came, size)

    @property
    def trusted(self) -> bool:
        """Whether it chooses."""
        known = self.correlation
        return self._model is not None and known.n >= _ENOUGH and known.positive

    def over(self, children: Draw, samples: Draw) -> Draw:
        return lambda n: self._chosen(children(self.times * n), n) if self.trusted else children(n)

    def asked(self, candidates: Sequence[Candidate]) -> None:
        # what becomes of them is predicted now, to be judged by it
        if not candidates:
            return
        rows = self._describe([c.genome for c in candidates], [c.parents for c in candidates])
        predicted = self._predict(rows)[:, 0] if self._model is not None else np.full(len(rows), np.nan)
        self._open |= {
            c.id: (row, float(value)) for c, row, value in zip(candidates, rows, predicted, strict=True)
        }

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        for evaluation, values in zip(evaluations, self.problem.values(evaluations), strict=True):
            row, predicted = self._open.pop(evaluation.candidate.id, (None, math.nan))
            if not np.isfinite(values).all():
                continue
            self._known[evaluation.candidate.id] = float(values[0])
            self._worst = max(self._worst, float(values[0]))
            if row is None:
                continue
            self._rows.append((row, values))
            self._fitted -= 1
            if math.isfinite(predicted):
                self._outcomes.append(
                    (predicted, float(values[0]), float(values[1]) if len(values) > 1 else 0.0)
                )
        if len(self._rows) >= _ENOUGH and self._fitted <= 0:
            self._fit()

    def state(self) -> dict[str, Any]:
        rows, values = ([*column] for column in zip(*self._rows, strict=True)) if self._rows else ([], [])
        return {
            "known": {
                "ids": np.fromiter(self._known, np.int64, len(self._known)),
                "values": np.fromiter(self._known.values(), np.float64, len(self._known)),
            },
            "worst": self._worst,
            "open": {
                "ids": [*self._open],
                "rows": [row for row, _ in self._open.values()],
                "predicted": [predicted for _, predicted in self._open.values()],
            },
            "rows": np.array(rows),
            "values": np.array(values),
            "outcomes": [list(outcome) for outcome in self._outcomes],
            "lesson": None if self._lesson is None else list(self._lesson),
            "fitted": self._fitted,
        }

    def restore(self, state: dict[str, Any]) -> None:
        known, opened = state["known"], state["open"]
        self._known = dict(zip(known["ids"].tolist(), known["values"].tolist(), strict=True))
        self._worst, self._fitted = state["worst"], state["fitted"]
        pairs = zip(opened["rows"], opened["predicted"], strict=True)
        self._open = dict(zip(opened["ids"], pairs, strict=True))
        self._rows = deque(zip(state["rows"], state["values"], strict=True), maxlen=_REMEMBERED)
        outcomes = ((predicted, came, size) for predicted, came, size in state["outcomes"])
        self._outcomes = deque(outcomes, maxlen=_JUDGED)
        if state["lesson"] is not None:
            rows, values, seed = state["lesson"]
            self._lesson = rows, values, seed
            self._learn()

    def _fit(self) -> None:
        """Learn from the latest results; again when there are a tenth more, so that all fitting grows with
        what was evaluated.
        """
        rows, values = (np.stack(column) for column in zip(*self._rows, strict=True))
        self._lesson = rows, values, int(self.rng.integers(2**31))
        self._learn()
        self._fitted = max(_ENOUGH, len(rows) // 10)

    def _learn(self) -> None:
        from sklearn.ensemble import ExtraTreesRegressor  # a second that other searches need not pay

        assert self._lesson is not None
        rows, values, seed = self._lesson
        self._model = ExtraTreesRegressor(self.trees, min_samples_leaf=2, random_state=seed).fit(rows, values)

    def _chosen(self, proposals: Sequence[Proposal], n: int) -> list[Proposal]:
        blind = round(self.chance * n)
        if len(proposals) <= n:
            return list(proposals)
        # the first ones pass unseen: outcomes of chosen ones alone could not show whether it predicts them
        unseen, others = proposals[:blind], proposals[blind:]
        values = self._predict(self._describe([p.genome for p in others], [p.parents for p in others]))
        ranks, crowding = rank(values, np.zeros(len(values)))
        order = np.lexsort((-crowding, ranks))[: n - blind]
        return [*unseen, *(others[row] for row in order)]

    def _predict(self, rows: np.ndarray) -> np.ndarray:
        """Return objective values, to be minimised, ``(n, objectives)``: what is screened as it is."""
        predicted = self._model.predict(rows).reshape(len(rows), -1)
        names = self.problem.evaluator.screened
        for column, objective in enumerate(self.problem.objectives):
            if objective.metric in names:
                sign = -1.0 if objective.maximise else 1.0
                predicted[:, column] = sign * np.exp(rows[:, names.index(objective.metric)])
        return predicted

    def _describe(self, genomes: Sequence[np.ndarray], parents: Sequence[tuple[int, ...]]) -> np.ndarray:
        """Return ``(n, screened + segments + 1)``: logarithms of what is screened, kept shares or levels, and
        the first parent's value.
        """
        stacked = np.stack(list(genomes))
        space, evaluator = self.problem.space, self.problem.evaluator
        found = evaluator.screen(stacked)
        screened = [
            np.log(np.maximum(np.asarray(found[name], dtype=np.float64), 1e-300))
            for name in evaluator.screened
        ]
        levels = [
            stacked[:, where].mean(axis=1) / max(s.choices - 1, 1)
            for s, where in zip(space.segments, space.slices.values(), strict=True)
        ]
        before = [self._known.get(known[0], self._worst) if known else self._worst for known in parents]
        return np.column_stack([*screened, *levels, before])


_REMEMBERED, _JUDGED, _ENOUGH = 1000, 64, 20
