"""Cell steps as a graph of Ray tasks: step t of a cell takes step t - 1 of its neighbours as object
references.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError

from evaluators.base import Evaluation
from evaluators.pairs.state import PairState, unpack_moments
from search.coevolution.cell import CellStep
from search.coevolution.grid import Stepped
from search.executors import ray_connection
from search.executors.ray_tasks import RayExecutor
from search.executors.work import reason

_loaded: dict[str, CellStep] = {}  # what this process works with, by object id; one at a time


class RayGrid:
    """Ray's own scheduler runs the graph, without a barrier between steps.

    Steps are deterministic and do not stream, so here Ray's retries and the reconstruction of lost objects
    are on; what Ray gives up is told as lost. Neighbours' pairs are arguments; optimisers' moments are
    fetched from those alone that are selected.

    Args:
        executor: its connection and the resources of its tasks are used.
    """

    def __init__(self, executor: RayExecutor) -> None:
        self._executor = executor
        self._refs: dict[int, tuple[Any, Any]] = {}  # pair, moments
        self._open: dict[Any, int] = {}  # reference of an evaluation -> id

    @property
    def capacity(self) -> int:
        return self._executor.capacity

    def start(self, work: CellStep) -> None:
        self._forget_all()
        self._executor.connect()
        executor = self._executor
        self._remote = ray.remote(
            num_returns=3,
            max_retries=3,
            num_cpus=executor.cpus_per_task,
            num_gpus=executor.gpus_per_task,
            runtime_env={"env_vars": executor.variables},
        )(step_of)
        self._box = ray_connection.boxed(work)

    def restore(self, id: int, content: bytes) -> None:
        ref = ray.put(np.frombuffer(content, np.uint8))
        self._refs[id] = ref, ref

    def submit(self, id: int, needs: Sequence[int]) -> None:
        pairs, moments = [self._refs[need][0] for need in needs], [self._refs[need][1] for need in needs]
        pair, moment, evaluation = self._remote.remote(self._box, id, self._executor.threads, moments, *pairs)
        self._refs[id] = pair, moment
        self._open[evaluation] = id

    def forget(self, id: int) -> None:
        self._refs.pop(id, None)

    def events(self, timeout: float | None = None) -> list[Stepped]:
        if not self._open:
            return []
        lost = self._executor.look()
        # wait for one, then take along all that are done by then
        ready, _ = ray.wait(list(self._open), num_returns=1, timeout=0 if lost else timeout)
        if ready and len(self._open) > 1:
            ready, _ = ray.wait(list(self._open), num_returns=len(self._open), timeout=0)
        done = [self._receive(ref) for ref in ready]
        return done + self._give_up() if lost else done

    def close(self) -> None:
        self._forget_all()

    def _give_up(self) -> list[Stepped]:
        """Let go of what is under way. Where a node was lost, nobody knows what was there or waits for it,
        and Ray may take minutes to say so. Nothing is cancelled: a step is short, and Ray 2.60 ends this very
        process where a task is done in the moment in which it is cancelled.
        """
        ids = list(self._open.values())
        self._open.clear()
        return [Stepped(id, None, "a node was lost", with_node=True) for id in ids]

    def _forget_all(self) -> None:
        self._open.clear()
        self._refs.clear()
        self._box = []

    def _receive(self, ref: Any) -> Stepped:
        id = self._open.pop(ref)
        try:
            return Stepped(id, ray.get(ref))
        except RayError as error:
            return Stepped(id, None, reason(error))


def step_of(
    box: list[ray.ObjectRef], id: int, threads: int, moments: list[ray.ObjectRef], *pairs: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Evaluation]:
    """Run a cell step in a worker.

    Args:
        box: holds the references to the work and to the user's modules.
        threads: of torch.
        moments: references to the optimisers' moments of the neighbourhood, fetched when they are needed.
        pairs: of the neighbourhood, its own first.

    Returns:
        The pair, its moments, and the evaluation.
    """
    import torch

    torch.set_num_threads(threads)
    # the box holds a reference, which Ray does not resolve: the work is fetched once a process, not a step
    key = box[0].hex()
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = ray_connection.unboxed(box)
    states = [PairState.from_bytes(pair.tobytes()) for pair in pairs]
    evaluation, outcome = _loaded[key].run(
        id, states, lambda place: unpack_moments(ray.get(moments[place]).tobytes())
    )
    empty = np.zeros(0, np.uint8)
    if outcome is None:
        return empty, empty, evaluation
    return (
        np.frombuffer(outcome.state.to_bytes(), np.uint8),
        np.frombuffer(outcome.packed_moments(), np.uint8),
        evaluation,
    )
