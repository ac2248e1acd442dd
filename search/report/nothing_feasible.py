"""What a run says for itself in which no candidate is within the limits: which, and what came nearest."""

from __future__ import annotations

import numpy as np

from search.numbers import bound, number, title
from search.record.about import About
from search.record.ledger import Ledger


def nothing_feasible(ledger: Ledger, about: About) -> str:
    """Return one sentence where candidates came to their end and none of them is within the limits; else an
    empty text.

    The sentence names the nearest candidate, of which the relative excesses over all limits add up to least,
    and what it has where a limit asks for something else.
    """
    if not about.constraints:
        return ""
    problem = about.problem()
    metrics = [constraint.metric for constraint in problem.constraints]
    nearest, least, count = -1, np.inf, 0
    for ids, columns in ledger.figures(metrics):
        excess = problem.violation({name: columns[name] for name in metrics})
        count += len(ids)
        place = int(np.argmin(np.where(np.isnan(excess), np.inf, excess)))
        if excess[place] < least:
            nearest, least = int(ids[place]), float(excess[place])
    evaluation = ledger.evaluation(nearest, arrays=False) if 0 < least < np.inf else None
    if evaluation is None:
        return ""
    passed = [
        f"{title(limit['metric'])} {number(evaluation.metrics[limit['metric']], limit['metric'])}, "
        f"where {bound(limit)}{_absolute(limit)} is asked for"
        for limit, constraint in zip(about.constraints, problem.constraints, strict=True)
        if constraint.excess(evaluation.metrics[constraint.metric], problem.base) > 0
    ]
    return (
        f"no candidate is within the limits: the nearest of {count:,} is candidate {nearest} with "
        f"{' and '.join(passed)}; search on with a larger budget, or loosen the limit"
    )


def _absolute(limit: dict) -> str:
    """The bound in the metric's unit, where it was given as a share of the base model's."""
    return f" ({number(limit['limit'], limit['metric'])})" if limit["relative"] else ""
