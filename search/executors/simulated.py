"""Evaluations in virtual time: a thousand workers in a second of one core."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from evaluators.base import Candidate, Evaluator
from search.executors.base import Event, Finished, Reported, Started
from search.executors.work import evaluate, pruned
from spaces.base import Space


class SimulatedExecutor:
    """Really evaluates, but takes as long as it is told: for tests and measurements of what happens between
    workers.

    The reports of a candidate lie evenly over its duration, the last one at its end.

    Args:
        workers: how many there are.
        duration: seconds of virtual time that a candidate takes.
    """

    time_limit: float | None = None  # of no effect: candidates take as long as it is told

    def __init__(self, workers: int, duration: Callable[[Candidate], float]) -> None:
        self.capacity = self.workers = workers
        self.duration = duration
        self.now = 0.0
        self._busy = 0.0
        self._queue: deque[Candidate] = deque()
        self._running: dict[int, tuple[Candidate, float]] = {}  # and when each started
        self._last: dict[int, Reported] = {}
        self._agenda: list[tuple[float, int, int, Event]] = []  # time, order, id, event
        self._order = 0

    def start(self, space: Space, evaluator: Evaluator) -> None:
        self._space, self._evaluator = space, evaluator

    def submit(self, candidates: Sequence[Candidate]) -> None:
        self._queue.extend(candidates)

    def events(self, timeout: float | None = None) -> list[Event]:
        """Return all events of the next moment at which there are any; real time does not matter."""
        while self._queue and len(self._running) < self.capacity:
            self._begin(self._queue.popleft())
        events: list[Event] = []
        while self._agenda and (not events or self._agenda[0][0] == self.now):
            at, _, id, event = heapq.heappop(self._agenda)
            if id not in self._running:
                continue  # it was cancelled
            self._busy += len(self._running) * (at - self.now)
            self.now = at
            if isinstance(event, Finished):
                self._end(id)
            elif isinstance(event, Reported):
                self._last[id] = event
            events.append(event)
        return events

    def cancel(self, id: int) -> None:
        if id in self._running:
            candidate, began = self._running[id]
            report = self._last[id].report if id in self._last else None
            self._plan(
                self.now,
                id,
                Finished(pruned(self._evaluator, candidate, report, self.now - began)),
                first=True,
            )

    def withdraw(self) -> list[int]:
        ids = [candidate.id for candidate in self._queue]
        self._queue.clear()
        return ids

    def close(self) -> None:
        self._queue.clear()
        self._running.clear()
        self._agenda.clear()

    @property
    def busy_share(self) -> float:
        """Share of the workers' time so far in which they worked."""
        return self._busy / (self.capacity * self.now) if self.now else 0.0

    def _begin(self, candidate: Candidate) -> None:
        self._running[candidate.id] = candidate, self.now
        duration = self.duration(candidate)
        events = list(evaluate(self._space, self._evaluator, candidate))
        reports = len(events) - 2
        for i, event in enumerate(events):
            if isinstance(event, Finished):
                event = Finished(replace(event.evaluation, seconds=duration))
            share = 0.0 if isinstance(event, Started) else min(i / reports, 1.0) if reports else 1.0
            self._plan(self.now + share * duration, candidate.id, event)

    def _plan(self, at: float, id: int, event: Event, first: bool = False) -> None:
        self._order += 1
        heapq.heappush(self._agenda, (at, -self._order if first else self._order, id, event))

    def _end(self, id: int) -> None:
        del self._running[id]
        self._last.pop(id, None)
