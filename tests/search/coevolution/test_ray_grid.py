"""Cells as a graph of Ray tasks: the same run as in process, with lost workers and after a kill."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ray
import torch

from operators.mutation import Mutation
from search.coevolution import Torus
from search.coevolution.ray_grid import RayGrid
from search.executors.ray_tasks import RayExecutor

sys.path.insert(0, str(Path(__file__).parent))
from cell_case import make, rows, rules

pytestmark = pytest.mark.usefixtures("shared_ray")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the workers
    yield
    torch.set_num_threads(before)


class Deadly(Mutation):
    """A pruning mutation that kills its worker, the first time that it is used."""

    def __init__(self, witness: Path) -> None:
        super().__init__()
        self.witness = witness

    def _apply(self, space, genomes, guide, rng) -> np.ndarray:
        if not self.witness.exists():
            self.witness.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return genomes


def test_a_lost_worker_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    inline = make(tmp_path, rules(pruning=[Deadly(tmp_path / "there")]), name="inline")
    inline.run()
    loop = make(
        tmp_path, rules(pruning=[Deadly(tmp_path / "lost")]), RayGrid(RayExecutor(workers=2)), name="ray"
    )
    assert loop.run().kind == "steps"
    assert (tmp_path / "lost").exists()
    assert rows(loop) == rows(inline)


def die() -> None:
    os._exit(1)


def test_what_ray_gives_up_is_done_again_from_the_files(tmp_path: Path) -> None:
    inline = make(tmp_path, rules(), name="inline")
    inline.run()
    grid = RayGrid(RayExecutor(workers=2))
    loop = make(tmp_path, rules(), grid, name="ray")
    lost = []

    def lose(evaluation: object, joined: bool) -> None:
        if (
            len(rows(loop)) == 12 and not lost
        ):  # every pair in the store becomes one whose maker was killed for good
            lost.append(ray.remote(max_retries=0)(die).remote())
            for id in list(grid._refs):
                grid._refs[id] = lost[0], lost[0]

    loop.tally.hearing.append(SimpleNamespace(evaluated=lose))
    assert loop.run().kind == "steps"
    assert lost and rows(loop) == rows(inline)


@pytest.mark.slow
def test_what_a_lost_node_had_is_done_again_and_says_nothing_about_the_work(tmp_path: Path) -> None:
    """That a node is lost is told five times in a row here; in tests/test_ray_silent_node.py one is."""
    changes = {"topology": Torus(2, 3), "steps": 8}
    inline = make(tmp_path, rules(**changes), name="inline")
    inline.run()
    executor = RayExecutor(workers=2)
    loop = make(tmp_path, rules(**changes), RayGrid(executor), name="ray")
    look, told = executor.look, iter(range(5))
    executor.look = lambda first=False: look(first) or (len(rows(loop)) > 8 and next(told, None) is not None)
    assert loop.run().kind == "steps"
    assert next(told, None) is None and rows(loop) == rows(inline)
    assert len({e.worker for _, e in loop.ledger.evaluations()}) == 2
