"""One candidate fails, or not even that: its neighbours, the process and Ctrl-C are unharmed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from evaluators.base import Candidate, Cause, Evaluation, State
from search.executors.base import Finished
from search.executors.inline import InlineExecutor
from search.executors.ray_tasks import RayExecutor
from tests.search.executors.misdeeds import FAILED, FINE, SPACE, Misdeeds
from tests.waiting import slowness, until

DEEDS = [deed for name in (*FAILED, *FINE) for deed in (name, "nothing")]


def check(results: dict[int, Evaluation], limit: float, deeds: list[str] = DEEDS) -> None:
    for id, deed in enumerate(deeds):
        found = results[id]
        if deed in FAILED:
            assert (found.state, found.metrics) == (State.FAILED, {}), deed
            assert found.reason.startswith(FAILED[deed]) and found.reason.isprintable(), deed
            slow = FAILED[deed].startswith("exceeded")
            assert found.cause is (Cause.TIME_LIMIT if slow else Cause.ERROR), deed
            assert not slow or f" of {limit:g} s" in found.reason
        else:
            assert (found.state, found.metrics) == (State.COMPLETE, {"loss": id}), (deed, found.reason)


def test_in_this_process(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = os.getcwd(), os.getpid(), sys.stdout, signal.getsignal(signal.SIGINT)
    inline = InlineExecutor(time_limit=0.3)
    inline.start(SPACE, Misdeeds(DEEDS, tmp_path))
    inline.submit([Candidate(i, SPACE.base) for i in range(len(DEEDS))])
    results = {}
    while events := inline.events():
        results.update((e.evaluation.candidate.id, e.evaluation) for e in events if isinstance(e, Finished))
        os.write(1, b".")
    check(results, 0.3)
    assert before == (os.getcwd(), os.getpid(), sys.stdout, signal.getsignal(signal.SIGINT))
    print("still here")
    assert capfd.readouterr().out.endswith("still here\n")


@pytest.mark.usefixtures("shared_ray")
def test_in_ray_workers(tmp_path: Path) -> None:
    limit = 1.5 * slowness()
    deeds = [*DEEDS, "die", "nothing"]
    executor = RayExecutor(batch=8, time_limit=limit)
    executor.start(SPACE, Misdeeds(deeds, tmp_path))
    executor.submit([Candidate(i, SPACE.base) for i in range(len(deeds))])
    results: dict[int, Evaluation] = {}

    def ended() -> bool:
        events = executor.events(1.0)
        results.update((e.evaluation.candidate.id, e.evaluation) for e in events if isinstance(e, Finished))
        return len(results) == len(deeds)

    until(ended, "the end of all candidates")
    executor.close()
    assert results[len(DEEDS)].cause is Cause.LOST_WORKER
    check({id: found for id, found in results.items() if id != len(DEEDS)}, limit)


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_stops_a_search_in_this_process(presses: int, tmp_path: Path) -> None:
    code = """
import sys, time
from search import Budget, Evolution, InlineExecutor, Loop, Objective, Problem
from search.interruption import interruptible
from search.record.ledger import Ledger
from tests.search.executors.misdeeds import SPACE, Misdeeds
evaluator = Misdeeds(["interrupt", "exit", *["endless"] * 100], sys.argv[2])
evaluator.bind(SPACE)
class Told:
    def tick(self, loop):
        if loop.steps.get(2): print("ready", flush=True)
loop = Loop(Problem(SPACE, evaluator, (Objective("loss"),)), Evolution(population=4), InlineExecutor(),
            Ledger(None, SPACE), Budget(evaluations=100), lag=4, chunk=4, listeners=[Told()])
if sys.argv[1] == "1":
    print(loop.run().kind)
else:
    with interruptible(loop.interrupt, lambda text: print("pressed", flush=True)):
        print(loop.run().kind)
"""
    command = [sys.executable, "-c", code, str(presses), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        for awaited in ("ready", "pressed")[:presses]:
            while run.stdout.readline().strip() != awaited:
                assert run.poll() is None
            run.send_signal(signal.SIGINT)
        assert run.stdout.read().splitlines()[-1] == "interrupted"
