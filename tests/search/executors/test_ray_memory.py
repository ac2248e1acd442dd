"""Workers that hold more and more are replaced between two batches; nothing is lost."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from torch import nn

from evaluators.base import Candidate, Evaluation, Evaluator, Report, State
from search.executors.base import Finished
from search.executors.ray_tasks import RayExecutor
from search.testing import BitSpace
from tests.waiting import until

SPACE = BitSpace(4)
LEAK = 20  # MiB that a candidate leaves behind


class Leaking(Evaluator):
    """Tells how many candidates' memory its process holds, and which process that is."""

    metrics = ("held", "process")

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        kept = sys.modules.setdefault("kept", [])  # type: ignore[arg-type, var-annotated]
        kept.append(bytearray(os.urandom(1)) * (LEAK * 2**20))  # type: ignore[attr-defined]
        yield Report({"held": len(kept), "process": os.getpid()})  # type: ignore[arg-type]


def evaluate(n: int, recycle_mib: float | None) -> dict[int, Evaluation]:
    executor = RayExecutor(batch=2, workers=2, recycle_mib=recycle_mib)
    executor.start(SPACE, Leaking())
    executor.submit([Candidate(i, SPACE.base) for i in range(n)])
    results: dict[int, Evaluation] = {}

    def ended() -> bool:
        events = executor.events(1.0)
        results.update((e.evaluation.candidate.id, e.evaluation) for e in events if isinstance(e, Finished))
        return len(results) == n

    until(ended, "the end of all candidates")
    executor.close()
    return results


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_a_worker_that_leaks_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        results = evaluate(20, 3.5 * LEAK)
    assert {(e.state, e.attempts) for e in results.values()} == {(State.COMPLETE, 1)}
    # two in the first batch, then four more: the next batch has another worker
    assert max(e.metrics["held"] for e in results.values()) == 6
    assert len({e.metrics["process"] for e in results.values()}) >= 20 / 6
    assert len(caplog.messages) == 1 and "ray.recycle_mib 70" in caplog.messages[0]
    held = evaluate(20, None)
    assert max(e.metrics["held"] for e in held.values()) > 6


def test_what_is_only_free_does_not_count() -> None:
    """In a process of its own: how memory is given back depends on what was there before."""
    code = """
from search.executors.ray_memory import Memory, own_mib
memory = Memory()
assert memory.grown(50) == 0.0
kept = [bytearray(2000) for _ in range(50_000)]
assert memory.grown(50) > 80 and own_mib() > 80
del kept[:]
assert memory.grown(50) < 50, memory.grown(50)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
