"""Real Ray: the same run as in process, and nothing that a candidate, a worker or an address does stops the
others.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import ray
import torch

from evaluators.base import Candidate, Cause, Evaluator, Report, State
from search.budget import Budget
from search.executors.base import Finished, Reported, Started
from search.executors.inline import InlineExecutor
from search.executors.ray_tasks import KILLS, RayExecutor
from search.loop import Loop
from search.problem import Objective, Problem
from search.record.ledger import Ledger
from search.strategies.random_search import RandomSearch
from search.testing import BitSpace
from spaces.errors import InputError
from tests.waiting import slowness, until

SPACE = BitSpace(16, segments=2)
pytestmark = pytest.mark.usefixtures("shared_ray")


class Deeds(Evaluator):
    """What candidates do, by id; this class lives in a file that no worker can import."""

    metrics = ("loss", "ones")

    def __init__(self, deeds=None, folder=None, epochs=1, pause=0.0):
        self.deeds, self.folder, self.epochs, self.pause = deeds or {}, folder, epochs, pause

    def evaluate(self, model, candidate):
        if self.folder:
            with open(os.path.join(self.folder, str(candidate.id)), "a") as witness:
                witness.write("x")
        deed = self.deeds.get(candidate.id)
        if deed == "exit":
            os._exit(1)
        if deed == "lost" and len(Path(self.folder, str(candidate.id)).read_text()) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if deed == "hang":
            time.sleep(600)
        if deed == "raise":
            raise ValueError("no such luck")
        while deed == "hold" and not Path(self.folder, "go").exists():
            time.sleep(0.05)
        for epoch in range(1000 * self.epochs if deed == "long" else self.epochs):
            time.sleep(self.pause)
            loss = float("nan") if deed == "nan" else torch.rand(1).item() + float(model.bits.sum())
            yield Report(
                {"loss": loss, "ones": float(candidate.genome[:8].sum())},
                epoch,
                {"activation": candidate.genome / 2},
            )


def candidates(n, start=0):
    genomes = SPACE.sample(n, np.random.default_rng(start))
    return [Candidate(start + i, genome, seed=i) for i, genome in enumerate(genomes)]


def drain(executor):
    events = []

    def ended():
        new = executor.events(1.0)
        events.extend(new)
        return not new and not executor._tasks

    until(ended, "the end of all tasks")
    return events


def outcomes(events):
    finished = [e.evaluation for e in events if isinstance(e, Finished)]
    results = {e.candidate.id: e for e in finished}
    assert len(results) == len(finished)
    return results


def evaluate(evaluator, n, **settings):
    executor = RayExecutor(**settings)
    executor.start(SPACE, evaluator)
    executor.submit(candidates(n))
    events = drain(executor)
    executor.close()
    assert ray.is_initialized()  # somebody else's: left as it is
    return outcomes(events), events


def test_strict_order_gives_what_the_inline_executor_gives():
    ledgers = []
    for executor in (InlineExecutor(), RayExecutor(batch=3), RayExecutor(workers=1)):
        evaluator = Deeds({7: "raise", 11: "nan"})
        evaluator.bind(SPACE)
        problem = Problem(SPACE, evaluator, (Objective("loss"), Objective("ones")))
        loop = Loop(
            problem, RandomSearch(), executor, Ledger(None, SPACE), Budget(evaluations=40), lag=12, chunk=4
        )
        assert loop.run().kind == "evaluations"
        ledgers.append(
            (
                sorted(
                    (e.candidate.id, e.candidate.genome.tobytes(), e.state, e.reason, e.metrics)
                    for _, e in loop.ledger.evaluations()
                ),
                [e.candidate.id for e in loop.front.members],
            )
        )
        np.testing.assert_array_equal(
            loop.ledger.evaluation(5).arrays["activation"], loop.ledger.evaluation(5).candidate.genome / 2
        )
        executor.close()
    assert ledgers[0] == ledgers[1] == ledgers[2]


def test_killers_fail_with_their_reason_and_their_neighbours_are_unharmed(tmp_path):
    deeds = {2: "exit", 6: "raise", 9: "nan"}
    results, _ = evaluate(Deeds(deeds | {8: "lost"}, str(tmp_path)), 12, batch=6)
    assert set(results) == set(range(12))
    for id, evaluation in results.items():
        assert evaluation.state is (State.FAILED if id in deeds else State.COMPLETE), (id, evaluation.reason)
    # on a busy machine a worker may die before its last words have left it: then a start is not counted, or a
    # result is made again
    assert results[8].attempts <= 2
    assert f"its worker died {KILLS} times (WorkerCrashedError" in results[2].reason
    starts = len((tmp_path / "2").read_text())
    assert results[2].attempts <= KILLS <= starts <= KILLS + 1  # in a batch a death may have no known culprit
    assert results[6].reason == "ValueError: no such luck"
    assert results[9].reason == "metric 'loss' is nan"
    assert [results[id].cause for id in (2, 6, 9)] == [Cause.LOST_WORKER, Cause.ERROR, Cause.METRIC]
    assert all(len((tmp_path / str(id)).read_text()) <= 2 for id in set(range(12)) - {2, 8})


def test_a_hanging_candidate_fails_at_its_time_limit_and_the_rest_of_its_batch_is_done(tmp_path):
    limit = 1.5 * slowness()
    results, _ = evaluate(Deeds({1: "hang"}, str(tmp_path)), 6, batch=6, time_limit=limit, workers=1)
    assert [results[i].state for i in range(6)] == [State.COMPLETE, State.FAILED] + [State.COMPLETE] * 4
    assert results[1].reason == f"exceeded the time limit of {limit:g} s"
    assert results[1].cause is Cause.TIME_LIMIT
    assert all(len((tmp_path / str(id)).read_text()) == 1 for id in range(6))


def test_events_of_a_candidate_come_in_order_and_cancelling_ends_it_at_its_last_report():
    executor = RayExecutor(batch=2)
    executor.start(SPACE, Deeds({0: "long"}, epochs=30, pause=0.05))
    executor.submit(candidates(4))
    events, cancelled = [], None
    while not cancelled:
        for event in executor.events(5.0):
            events.append(event)
            if isinstance(event, Reported) and event.report.step == 3 and event.id == 0:
                executor.cancel(0)
                cancelled = event
    events += drain(executor)
    executor.close()
    results = outcomes(events)
    assert results[0].state is State.PRUNED
    assert (
        results[0].metrics["loss"]
        == [e for e in events if isinstance(e, Reported) and e.id == 0][-1].report.metrics["loss"]
    )
    assert [results[i].state for i in (1, 2, 3)] == [State.COMPLETE] * 3
    for id in (1, 2, 3):
        mine = [e for e in events if not isinstance(e, Finished) and e.id == id]
        assert isinstance(mine[0], Started)
        assert [e.report.step for e in mine[1:]] == list(range(30))


def test_withdrawn_candidates_give_nothing_and_the_running_ones_end(tmp_path):
    executor = RayExecutor(workers=1)
    executor.start(SPACE, Deeds({0: "hold"}, str(tmp_path)))
    executor.submit(candidates(10))
    events = []
    until(
        lambda: events.extend(executor.events(1.0)) or any(isinstance(e, Started) for e in events), "a start"
    )
    withdrawn = executor.withdraw()
    (tmp_path / "go").touch()
    events += drain(executor)
    executor.close()
    assert len(withdrawn) == 9  # of two CPUs one worker uses one
    assert sorted([*withdrawn, *outcomes(events)]) == list(range(10))


def test_it_starts_again_with_another_evaluator_and_holds_no_references():
    executor = RayExecutor(batch=4)
    for pause in (0.0, 0.01):
        executor.start(SPACE, Deeds(pause=pause))
        executor.submit(candidates(8))
        assert len(outcomes(drain(executor))) == 8
    assert not executor._tasks and not executor._queue and not executor._ready
    executor.close()


def test_a_worker_has_a_thread_per_cpu():
    class Threads(Evaluator):
        metrics = ("torch", "omp")

        def evaluate(self, model, candidate):
            yield Report({"torch": torch.get_num_threads(), "omp": int(os.environ["OMP_NUM_THREADS"])})

    results, _ = evaluate(Threads(), 1, cpus_per_task=2)
    assert results[0].metrics == {"torch": 2.0, "omp": 2.0}


def test_what_cannot_work_is_refused_before_it_starts():
    executor = RayExecutor(cpus_per_task=64)
    with pytest.raises(InputError, match="no node has the 64 CPU"):
        executor.start(SPACE, Deeds())
    executor = RayExecutor()
    with pytest.raises(InputError, match="cannot be sent to the workers"):
        executor.start(SPACE, Deeds(deeds={"lock": sys.stdout}))
    for settings in (
        {"workers": 0},
        {"batch": 0},
        {"time_limit": 0},
        {"cpus_per_task": 0},
        {"gpus_per_task": -1},
        {"recycle_mib": 0},
        {"recycle_mib": float("nan")},
    ):
        with pytest.raises(InputError, match=next(iter(settings))):
            RayExecutor(**settings)


@pytest.fixture
def mute():
    """A port that takes calls and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield "127.0.0.1:" + str(server.getsockname()[1])


def test_an_address_that_does_not_answer_is_refused_in_time(mute):
    code = """
import sys, time
from search.executors.ray_tasks import RayExecutor
from search.testing import BitSpace
from spaces.errors import InputError
for address in sys.argv[2:]:
    began = time.monotonic()
    try:
        RayExecutor(address=address, patience=8).start(BitSpace(2), None)
    except InputError as error:
        assert "\\n" not in str(error), error
        print("refused", address in str(error), time.monotonic() - began < float(sys.argv[1]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(15 * slowness()), "192.0.2.1:6379", "127.0.0.1:1", mute],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["refused True True"] * 3, done.stderr
