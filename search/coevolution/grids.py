"""Which grid belongs to which executor."""

from __future__ import annotations

from search.coevolution.grid import Grid
from search.coevolution.inline_grid import InlineGrid
from search.executors.base import Executor
from search.executors.ray_tasks import RayExecutor


def make_grid(executor: Executor) -> Grid:
    """Return the grid that runs cell steps where this executor runs candidates: on Ray, or in
    this process.
    """
    if isinstance(executor, RayExecutor):
        from search.coevolution.ray_grid import RayGrid

        return RayGrid(executor)
    return InlineGrid()
