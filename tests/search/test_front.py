"""The incremental front equals the one computed from everything at once."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from evaluators.base import Candidate, Evaluation, State
from search.front import Front
from search.problem import Constraint, Objective, Problem

AB = (Objective("a"), Objective("b"))


def front(objectives=AB, constraints=()):
    return Front(Problem(None, None, objectives, constraints))


def evaluation(id, state=State.COMPLETE, **metrics):
    return Evaluation(Candidate(id, np.zeros(1, np.uint8)), state, metrics, {"activation": np.zeros(1000)})


def non_dominated(points):
    return {
        i
        for i, p in enumerate(points)
        if not any((q <= p).all() and ((q < p).any() or j < i) for j, q in enumerate(points) if j != i)
    }


@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("levels", [4, 1000])
def test_equals_the_front_of_everything_with_ties_to_the_older(m, levels):
    points = np.random.default_rng(m).integers(0, levels, (300, m)).astype(float)
    names = "abc"[:m]
    archive = front(tuple(Objective(n) for n in names))
    joined = [archive.add(evaluation(i, **dict(zip(names, p, strict=True)))) for i, p in enumerate(points)]
    assert {e.candidate.id for e in archive.members} == non_dominated(points)
    assert all(joined[e.candidate.id] for e in archive.members)
    assert archive.values.tolist() == sorted(archive.values.tolist())
    np.testing.assert_array_equal(archive.values, [[e.metrics[n] for n in names] for e in archive.members])


def test_the_members_do_not_depend_on_the_order_but_for_ties():
    points = [(0, 3), (1, 2), (1, 1), (3, 0), (2, 2)]
    for order in itertools.permutations(range(5)):
        archive = front()
        for i in order:
            archive.add(evaluation(i, a=points[i][0], b=points[i][1]))
        assert [e.candidate.id for e in archive.members] == [0, 2, 3]


def test_holds_no_arrays_and_refuses_what_is_infeasible_failed_or_not_finite():
    archive = front(constraints=(Constraint("c", "<=", 1.0),))
    assert archive.add(evaluation(0, a=5, b=5, c=1.0))
    assert archive.members[0].arrays == {}
    assert not archive.add(evaluation(1, a=1, b=1, c=1.1))
    assert not archive.add(evaluation(2, State.FAILED))
    assert not archive.add(evaluation(3, State.PRUNED, a=1, b=1, c=0))
    assert not archive.add(evaluation(4, a=1, b=float("nan"), c=0))
    assert [e.candidate.id for e in archive.members] == [0]


def test_hypervolume_in_the_objectives_own_directions():
    archive = front((Objective("accuracy", maximise=True), Objective("macs")))
    assert archive.hypervolume((0, 10)) == 0
    archive.add(evaluation(0, accuracy=0.5, macs=4))
    assert archive.hypervolume((0, 10)) == pytest.approx(0.5 * 6)
    archive.add(evaluation(1, accuracy=0.75, macs=8))
    assert archive.hypervolume((0, 10)) == pytest.approx(0.5 * 6 + 0.25 * 2)
    assert [e.candidate.id for e in archive.members] == [1, 0]  # best first
    assert archive.hypervolume((0.9, 1)) == 0  # nothing lies within this reference
