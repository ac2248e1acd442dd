"""What the report tells of a ladder of fidelities: how many candidates came to each rung, and whether what
it said came true.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.report.facts import Facts
from search.strategies.ladder import PROMOTED
from search.strategies.rank_correlation import RankCorrelation, rank_correlation


@dataclass(frozen=True)
class Rung:
    """A rung: how many candidates were looked at there, how many of them went on, and its correlation with
    the last rung.
    """

    number: int
    looked: int
    went_on: int
    correlation: RankCorrelation


def rungs(facts: Facts) -> list[Rung]:
    """Return all rungs but the last; none where no candidate was promoted.

    The correlation is that of the first objective here with that on the last rung, the second objective
    given, over all that came there.
    """
    if "rung" not in facts.metrics or not facts.ids.size:
        return []
    reached = dict(zip(facts.ids.tolist(), facts.metrics["rung"].astype(int).tolist(), strict=True))
    values = [
        dict(zip(facts.ids.tolist(), facts.metrics[name].tolist(), strict=True))
        for name in facts.objectives[:2]
    ]
    # a promoted candidate is a new one, whose first parent is the one that it was on the rung below
    below = {id: parents[0] for id, (parents, operator) in facts.parents.items() if operator == PROMOTED}
    top = max(reached.values())
    climbed = (_path(id, below) for id, rung in reached.items() if rung == top and id in below)
    paths = [path for path in climbed if len(path) == top + 1]  # which began on the first rung
    looked = np.bincount(list(reached.values()), minlength=top + 1)
    promoted = [reached[parent] for parent in below.values() if parent in reached]
    went_on = np.bincount(promoted, minlength=top + 1)
    scores = np.array([[values[0][id] for id in path] for path in paths]).reshape(-1, top + 1)
    sizes = np.array([values[1][path[-1]] for path in paths]) if len(values) > 1 else None
    return [
        Rung(r, int(looked[r]), int(went_on[r]), rank_correlation(scores[:, r], scores[:, -1], sizes))
        for r in range(top)
    ]


def _path(id: int, below: dict[int, int]) -> list[int]:
    """What a candidate was on each rung, from the lowest one up."""
    path = [id]
    while path[-1] in below:
        path.append(below[path[-1]])
    return path[::-1]
