"""Cell steps in this very process, one after another; and in virtual time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from search.coevolution.cell import CellStep, Outcome
from search.coevolution.grid import Stepped


class InlineGrid:
    """Runs the steps in the order in which they were submitted: a step never comes before those that it
    needs.
    """

    capacity = 1

    def __init__(self) -> None:
        self._waiting: list[tuple[int, tuple[int, ...]]] = []
        self._states: dict[int, Outcome] = {}

    def start(self, work: CellStep) -> None:
        self._work = work
        self._waiting.clear()
        self._states.clear()

    def restore(self, id: int, content: bytes) -> None:
        self._states[id] = Outcome.from_bytes(content)

    def submit(self, id: int, needs: Sequence[int]) -> None:
        self._waiting.append((id, tuple(needs)))

    def forget(self, id: int) -> None:
        self._states.pop(id, None)

    def events(self, timeout: float | None = None) -> list[Stepped]:
        """Run one step, whatever the timeout."""
        if not self._waiting:
            return []
        id, needs = self._waiting.pop(0)
        return [self._run(id, needs)]

    def close(self) -> None:
        self._waiting.clear()

    def _run(self, id: int, needs: Sequence[int]) -> Stepped:
        states = [self._states[need] for need in needs]
        evaluation, outcome = self._work.run(
            id, [s.state for s in states], lambda place: states[place].moments
        )
        if outcome is not None:
            self._states[id] = outcome
        return Stepped(id, evaluation)


class SimulatedGrid(InlineGrid):
    """Really runs the steps, but takes as long as it is told, on as many workers as it is told: to measure
    what happens between them.

    Args:
        workers: how many there are.
        duration: seconds of virtual time that a step takes, by its id.
    """

    def __init__(self, workers: int, duration: Callable[[int], float]) -> None:
        super().__init__()
        self.capacity = workers
        self.duration = duration
        self.now = self._busy = 0.0
        self._running: list[tuple[float, int, tuple[int, ...]]] = []  # when it ends, id, needs
        self._done: set[int] = set()

    def restore(self, id: int, content: bytes) -> None:
        super().restore(id, content)
        self._done.add(id)

    def events(self, timeout: float | None = None) -> list[Stepped]:
        """Go on to the next end of a step; real time does not matter."""
        # idle workers take up, in order, what has all it needs; then time jumps to the first end of a step
        for item in list(self._waiting):
            if len(self._running) == self.capacity:
                break
            id, needs = item
            if self._done.issuperset(needs):
                self._waiting.remove(item)
                heapq.heappush(self._running, (self.now + self.duration(id), id, needs))
        if not self._running:
            return []
        at, id, needs = heapq.heappop(self._running)
        self._busy += (len(self._running) + 1) * (at - self.now)
        self.now = at
        self._done.add(id)
        return [self._run(id, needs)]

    @property
    def busy_share(self) -> float:
        """Share of the workers' time, so far, in which they worked."""
        return self._busy / (self.now * self.capacity) if self.now else 0.0
