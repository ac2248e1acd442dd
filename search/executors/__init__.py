"""Where candidates are evaluated: in process, on Ray, or in simulated time."""

from typing import TYPE_CHECKING

from spaces.lazy import lazily

if TYPE_CHECKING:
    from search.executors.base import Event, Executor, Finished, Reported, Started
    from search.executors.inline import InlineExecutor
    from search.executors.ray_tasks import RayExecutor
    from search.executors.simulated import SimulatedExecutor

__all__ = [
    "Event",
    "Executor",
    "Finished",
    "InlineExecutor",
    "RayExecutor",
    "Reported",
    "SimulatedExecutor",
    "Started",
]

# A name is imported when it is first used: what needs no Ray does not wait for it.
_HOMES = {
    "Event": "search.executors.base",
    "Executor": "search.executors.base",
    "Finished": "search.executors.base",
    "InlineExecutor": "search.executors.inline",
    "RayExecutor": "search.executors.ray_tasks",
    "Reported": "search.executors.base",
    "SimulatedExecutor": "search.executors.simulated",
    "Started": "search.executors.base",
}

__getattr__ = lazily(__name__, _HOMES)
