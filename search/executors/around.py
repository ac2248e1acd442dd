"""An executor around an executor: what it does not do itself the inner one does."""

from __future__ import annotations

from collections.abc import Sequence

from evaluators.base import Candidate, Evaluator
from search.executors.base import Event, Executor
from spaces.base import Space


class Around:
    """Hands everything on to another executor; a class of it changes what it is about.

    Args:
        inner: evaluates.
    """

    def __init__(self, inner: Executor) -> None:
        self.inner = inner

    @property
    def capacity(self) -> int:
        return self.inner.capacity

    @property
    def workers(self) -> int | None:
        return self.inner.workers

    @property
    def time_limit(self) -> float | None:
        return self.inner.time_limit

    @time_limit.setter
    def time_limit(self, seconds: float | None) -> None:
        self.inner.time_limit = seconds

    def start(self, space: Space, evaluator: Evaluator) -> None:
        self.inner.start(space, evaluator)

    def submit(self, candidates: Sequence[Candidate]) -> None:
        self.inner.submit(candidates)

    def events(self, timeout: float | None = None) -> list[Event]:
        return self.inner.events(timeout)

    def cancel(self, id: int) -> None:
        self.inner.cancel(id)

    def withdraw(self) -> list[int]:
        return self.inner.withdraw()

    def close(self) -> None:
        self.inner.close()
