"""What a Ray worker runs: a batch of candidates, as one stream of messages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from evaluators.base import Candidate, Evaluator
from search.executors.base import Event, Reported, Started
from search.executors.ray_connection import unboxed
from search.executors.ray_memory import Memory
from search.executors.work import evaluate
from spaces.base import Space
from spaces.lazy import LazyModule

if TYPE_CHECKING:
    import ray
else:
    ray = LazyModule("ray")


@dataclass(frozen=True)
class Arrived:
    """A batch is at its worker, on this node of Ray."""

    node: str


@dataclass(frozen=True)
class Grown:
    """A batch is done, and its worker has come to hold so much memory that it waits to be stopped."""

    mib: float


Message = list[Event | Arrived | Grown]
_PAUSE = 0.02  # seconds within which a report is not sent on its own, but with what follows
_PATIENCE = 60.0  # seconds that a worker waits to be stopped, before it goes on all the same
_memory = Memory()
# what this process evaluates with, by object id; one at a time
_loaded: dict[str, tuple[Space, Evaluator]] = {}


def work(
    box: list[ray.ObjectRef], items: list[tuple[Candidate, int]], threads: int, most: float
) -> Iterator[Message]:
    """Evaluate a batch. Every start is announced before it happens, so that a candidate that hangs or kills
    the worker is known by name.

    Args:
        box: holds the references to space and evaluator, and to the user's modules.
        items: candidates, and how often each has been started with this time.
        threads: of torch.
        most: MiB by which the worker may grow after its first batch.
    """
    message: Message = [Arrived(ray.get_runtime_context().get_node_id())]
    torch.set_num_threads(threads)
    key = box[0].hex()
    if key not in _loaded:
        yield message  # what follows may take its time
        message = []
        _loaded.clear()
        _loaded[key] = unboxed(box)
    space, evaluator = _loaded[key]
    device = "cuda" if ray.get_gpu_ids() else "cpu"  # a share of a GPU is a GPU: Ray shows the task no other
    sent = 0.0
    for candidate, attempts in items:
        for event in evaluate(space, evaluator, candidate, attempts, device):
            message.append(event)
            if isinstance(event, Started) or (
                isinstance(event, Reported) and time.monotonic() - sent > _PAUSE
            ):
                yield message
                message, sent = [], time.monotonic()
    grown = _memory.grown(most)
    if grown > most:
        message.append(Grown(grown))
    yield message
    if grown > most:
        time.sleep(_PATIENCE)
