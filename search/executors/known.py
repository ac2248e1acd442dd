"""Results that are known already, given without any work; everything else is evaluated elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evaluators.base import Candidate, Evaluation, Report
from search.executors.around import Around
from search.executors.base import Event, Executor, Finished, Reported, Started


@dataclass(frozen=True, eq=False)
class Known:
    """What came of a candidate, and the reports that it gave on the way."""

    evaluation: Evaluation
    reports: Sequence[Report] = ()


class KnownResults(Around):
    """An executor around an executor: a candidate that is known ends at once with the known result, all
    others go on to the inner one. [O]

    A candidate that is known gives the events of any other; it has ended before it could be cancelled or
    withdrawn. Which ones those are is a matter of their genomes
    alone, so a run in strict order is the same on any number of workers.

    Args:
        inner: evaluates the others.
        find: gives what is known of a candidate, None where nothing is.
    """

    def __init__(self, inner: Executor, find: Callable[[Candidate], Known | None]) -> None:
        super().__init__(inner)
        self._find = find
        self._ready: list[Event] = []

    def submit(self, candidates: Sequence[Candidate]) -> None:
        unknown = []
        for candidate in candidates:
            known = self._find(candidate)
            if known is None:
                unknown.append(candidate)
                continue
            self._ready.append(Started(candidate.id))
            self._ready += [Reported(candidate.id, report, known=True) for report in known.reports]
            self._ready.append(Finished(known.evaluation))
        if unknown:
            self.inner.submit(unknown)

    def events(self, timeout: float | None = None) -> list[Event]:
        """What is known comes first, without waiting for anything else."""
        events, self._ready = self._ready, []
        return events or self.inner.events(timeout)

    def close(self) -> None:
        self._ready.clear()
        self.inner.close()
