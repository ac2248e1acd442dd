"""Which members of a front stand for it."""

from __future__ import annotations

import moocore
import numpy as np

from evaluators.base import Evaluation
from search.front import Front
from search.problem import Problem
from search.record.ledger import Ledger

_COLLAPSED = 0.7


def choose(front: Front, k: int) -> list[Evaluation]:
    """Return at most `k` members of a front that stand for it: the best in the first objective, then the one
    that adds most hypervolume, and so on. [O]

    Collapsed members are passed over while there are others: fine-tuning does not bring back a model that
    lost more than seven tenths, in the first objective, of what the worst member lost to the base model.

    Returns:
        The members in the order of the front.
    """
    members, values = front.members, front.values
    base = front.problem.base.get(front.problem.objectives[0].metric)
    if base is not None and len(members) > k:
        whole = -base if front.problem.objectives[0].maximise else base
        # members are sorted by it
        sound = int((values[:, 0] <= whole + _COLLAPSED * (values[-1, 0] - whole)).sum())
        members, values = members[: max(sound, k)], values[: max(sound, k)]
    if len(members) <= k:
        return members
    low, high = values.min(axis=0), values.max(axis=0)
    scaled = (values - low) / np.where(high > low, high - low, 1)
    reference = np.full(scaled.shape[1], 1.1)  # a little beyond the worst, so that the ends count too
    chosen = [0][:k]
    while len(chosen) < k:
        rest = [i for i in range(len(members)) if i not in chosen]
        chosen.append(max(rest, key=lambda i: (moocore.hypervolume(scaled[[*chosen, i]], ref=reference), -i)))
    return [members[i] for i in sorted(chosen)]


def front_of(problem: Problem, ledger: Ledger) -> Front:
    """Return the front of everything in a ledger."""
    front = Front(problem)
    metrics = [*(o.metric for o in problem.objectives), *(c.metric for c in problem.constraints)]
    for ids, columns in ledger.figures(metrics):
        signed = [-columns[o.metric] if o.maximise else columns[o.metric] for o in problem.objectives]
        fit = front.beyond(np.column_stack(signed))
        if problem.constraints:
            fit &= ~(problem.violation({c.metric: columns[c.metric] for c in problem.constraints}) > 0)
        # few are left: these are looked at one by one
        for id in ids[fit]:
            if (evaluation := ledger.evaluation(int(id), arrays=False)) is not None:
                front.add(evaluation)
    return front
