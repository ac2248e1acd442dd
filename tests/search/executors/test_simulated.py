"""Virtual time: what overlaps, what it costs, and how busy the workers were."""

from __future__ import annotations

import numpy as np
import pytest

from evaluators.base import Candidate, Evaluator, Report, State
from search.executors.base import Finished, Reported, Started
from search.executors.simulated import SimulatedExecutor
from search.testing import BitSpace


class Steps(Evaluator):
    metrics = ("step",)

    def evaluate(self, model, candidate):
        for step in range(4):
            yield Report({"step": step}, step)


def executor(workers, durations):
    simulated = SimulatedExecutor(workers, lambda c: durations[c.id])
    simulated.start(BitSpace(4), Steps())
    simulated.submit([Candidate(i, np.zeros(4, np.uint8)) for i in range(len(durations))])
    return simulated


def timeline(simulated):
    while events := simulated.events():
        for event in events:
            id = event.evaluation.candidate.id if isinstance(event, Finished) else event.id
            yield simulated.now, type(event), id, event


def test_workers_take_the_next_candidate_as_they_get_free():
    simulated = executor(2, [4, 2, 6, 1])
    events = list(timeline(simulated))
    assert [(at, id) for at, kind, id, _ in events if kind is Started] == [(0, 0), (0, 1), (2, 2), (4, 3)]
    assert [(at, id) for at, kind, id, _ in events if kind is Finished] == [(2, 1), (4, 0), (5, 3), (8, 2)]
    assert [at for at, kind, id, _ in events if kind is Reported and id == 0] == [1, 2, 3, 4]
    assert simulated.now == 8
    assert simulated.busy_share == pytest.approx(13 / 16)
    assert all(
        event.evaluation.seconds == [4, 2, 6, 1][id] for _, kind, id, event in events if kind is Finished
    )


def test_a_cancelled_candidate_frees_its_worker():
    simulated = executor(1, [8, 1])
    finished = {}
    for at, kind, id, event in timeline(simulated):
        if kind is Reported and id == 0 and event.report.step == 1:
            simulated.cancel(0)
            simulated.cancel(1)  # has not started
        if kind is Finished:
            finished[id] = (at, event.evaluation.state, event.evaluation.metrics["step"])
    assert finished == {0: (4, State.PRUNED, 1.0), 1: (5, State.COMPLETE, 3.0)}
    assert simulated.busy_share == 1


def test_withdrawn_candidates_never_start():
    simulated = executor(2, [1] * 5)
    simulated.events()
    assert simulated.withdraw() == [2, 3, 4]
    assert [id for _, kind, id, _ in timeline(simulated) if kind is Finished] == [0, 1]
