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
    quality, cost = main_quality(finals, about), main_cost(about)
    if quality is None:
        return None
    key, sign = f"test_{quality}", -1 if is_maximised(quality, about) else 1
    members = [final for final in finals if final.id != BASE and key in final.test and not final.reason]
    if not members:
        return None
    base = next((final for final in finals if final.id == BASE), None)
    limit = base_at_best(base, quality, sign)

    def worth(final: Final) -> tuple[float, float]:
        return sign * final.test[key], final.realised.get(cost, 0.0)

    within = [final for final in members if all(limit.met for limit in final.limits)]
    good = [final for final in within if limit is not None and sign * final.test[key] <= sign * limit]
    if good and all(cost in final.realised for final in good):
        best = min(good, key=lambda final: (final.realised[cost], sign * final.test[key]))
        start = f"Take {best.name}"
        why = f"the fewest {title(cost)} at no worse a test {title(quality)} than the base model"
    elif within:
        best = min(within, key=worth)
        start = f"Take {best.name}"
        why = f"the best test {title(quality)} of the finished models within the limits"
        if limit is not None:
            start = f"None is as good as the base model; take {best.name}"
    else:
        best = min(members, key=lambda final: (sum(not limit.met for limit in final.limits), *worth(final)))
        start = f"No finished model meets every limit; the nearest is {best.name}"
        why = "the fewest limits passed, then the best on the test split"
    beside = "" if limit is None else f" (base model {number(limit, quality)})"
    whole = base.realised.get(cost) if base is not None else about.base.get(cost)
    part = share(best.realised[cost], whole) if cost in best.realised else ""
    at = f" at {part} of its {title(cost)}" if part else ""
    words = f"{start}: test {title(quality)} {number(best.test[key], quality)}{beside}{at}."
    return Advice(best, words, why)


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
