"""Which of the finished models to take, and why, in words that hold on the test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evaluators.cost.counting import COSTS
from search.numbers import number, share, title
from search.record.about import About
from search.record.finals import BASE, Final

_KNOWN_AS = {"expected_error": "error"}
"""Metrics that a search looks at in place of others, which people know."""


@dataclass(frozen=True)
class Advice:
    """One of the finished models.

    Attributes:
        final: the model.
        words: one sentence: which model, its figure on the test split beside the base model's, and its cost.
        why: the rule that it was chosen by.
    """

    final: Final
    words: str
    why: str


def advise(finals: Sequence[Final], about: About) -> Advice | None:
    """Return the model to take: the smallest within the limits that is no worse than the base model on the
    test split; where there is none, the best within the limits; None where nothing was tested. [O]

    The base model counts with the better one of its two figures: as it was, and after the same fine-tuning.
    """
    quality = main_quality(finals, about)
    members = [final for final in finals if final.id != BASE and f"test_{quality}" in final.test]
    members = [final for final in members if not final.reason]
    return _advice(members, _Scale(finals, about, quality)) if quality is not None and members else None


def _advice(members: Sequence[Final], scale: _Scale) -> Advice:
    title_of = title(scale.quality)
    within = [final for final in members if all(limit.met for limit in final.limits)]
    good = [final for final in within if scale.is_good(final)]
    if good:
        best = min(good, key=lambda final: (final.realised[scale.cost], scale.loss(final)))
        start = f"Take {best.name}"
        why = f"the fewest {title(scale.cost)} at no worse a test {title_of} than the base model"
    elif within:
        best = min(within, key=scale.loss)
        start = f"None is as good as the base model; take {best.name}" if scale.known else f"Take {best.name}"
        why = f"the best test {title_of} of the finished models within the limits"
    else:
        best = min(
            members, key=lambda final: (sum(not limit.met for limit in final.limits), scale.loss(final))
        )
        start = f"No finished model meets every limit; the nearest is {best.name}"
        why = "the fewest limits passed, then the best on the test split"
    return Advice(best, f"{start}: {scale.figures(best)}.", why)


class _Scale:
    """What models are held against: the base model's figures, in the metric and the cost that matter."""

    def __init__(self, finals: Sequence[Final], about: About, quality: str) -> None:
        self.quality, self.cost = quality, main_cost(about)
        self._sign = -1 if is_maximised(quality, about) else 1
        base = next((final for final in finals if final.id == BASE), None)
        self._limit = base_at_best(base, quality, self._sign)
        self._whole = base.realised.get(self.cost) if base is not None else about.base.get(self.cost)

    @property
    def known(self) -> bool:
        """Whether the base model was tested."""
        return self._limit is not None

    def loss(self, final: Final) -> float:
        """The test figure, less is better."""
        return self._sign * final.test[f"test_{self.quality}"]

    def is_good(self, final: Final) -> bool:
        """Whether a model is no worse than the base model, and its cost is known."""
        no_worse = self._limit is not None and self.loss(final) <= self._sign * self._limit
        return no_worse and self.cost in final.realised

    def figures(self, final: Final) -> str:
        """The model's figures beside the base model's."""
        figure = number(final.test[f"test_{self.quality}"], self.quality)
        beside = f" (base model {number(self._limit, self.quality)})" if self._limit is not None else ""
        part = share(final.realised[self.cost], self._whole) if self.cost in final.realised else ""
        at = f" at {part} of its {title(self.cost)}" if part else ""
        return f"test {title(self.quality)} {figure}{beside}{at}"


def main_quality(finals: Sequence[Final], about: About) -> str | None:
    """Return the tested metric that people judge a model by: the first objective that was tested, under the
    name that people know, else a constraint; None where nothing was.
    """
    tested = {name for final in finals for name in final.test}
    goals = [goal["metric"] for goal in (*about.objectives, *about.constraints)]
    names = [name for goal in goals for name in (_KNOWN_AS.get(goal, goal), goal)]
    return next((name for name in names if f"test_{name}" in tested), None)


def is_maximised(quality: str, about: About) -> bool:
    """Whether more of a metric is better."""
    for goal in about.objectives:
        if quality in (goal["metric"], _KNOWN_AS.get(goal["metric"])):
            return bool(goal["maximise"])
    return any(goal["metric"] == quality and goal["relation"] == ">=" for goal in about.constraints)


def base_at_best(base: Final | None, quality: str, sign: int) -> float | None:
    """Return the better of the base model's figures on the test split: as it was, and after the fine-tuning
    that the members had; None where it was not tested.
    """
    names = (f"test_{quality}", f"test_{quality}_before")
    found = [base.test[name] for name in names if name in base.test] if base is not None else []
    return min(found, key=lambda value: sign * value, default=None)


def main_cost(about: About) -> str:
    """Return the cost that the search was about: an objective or a constraint on it, else MACs."""
    named = [goal["metric"] for goal in (*about.objectives, *about.constraints)]
    return next((name for name in named if name in COSTS), "macs")
