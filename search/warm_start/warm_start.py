"""The runs that a search begins with: seen to before anything is made, kept with the search, and asked for
their results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from evaluators.base import Candidate
from operators.initialisation import Initialisation
from search.executors.base import Executor
from search.executors.known import Known, KnownResults
from search.problem import Problem
from search.record.identity import Identity
from search.record.ledger import Ledger
from search.strategy import SearchStrategy
from search.warm_start.carried_results import CarriedResults
from search.warm_start.from_run import FromRun
from search.warm_start.more_epochs import MoreEpochs
from spaces.base import Space


class WarmStart:
    """What a search has of the runs that its strategy begins with; nothing where it begins with none.

    Args:
        strategy: of the search; its ``initialisation``, where it is a :class:`FromRun`, names a run, and so
            may what follows on it.
        state: folder of the search's heavy state, where the other runs' ledgers are kept; None: nothing is
            kept.
    """

    def __init__(self, strategy: SearchStrategy, state: Path | None) -> None:
        self._state, self._asks_known = state, strategy.asks_known
        self.sources: list[FromRun] = []
        self._checking: list[Initialisation] = []
        source = getattr(strategy, "initialisation", None)
        while source is not None:
            if isinstance(source, FromRun):
                self.sources.append(source)
            if source.checks:
                self._checking.append(source)
            source = getattr(source, "then", None)

    @property
    def checks(self) -> bool:
        """Whether the space has to be seen before the search begins."""
        return bool(self._checking)

    def check(self, space: Space) -> None:
        """See that every run is there, or was kept, and has something in common with the space, and that
        starting points fit it.

        Raises:
            InputError: of the first that is not, or has not.
        """
        for source in self.sources:
            source.find(self._state)
        for initialisation in self._checking:
            initialisation.check(space)

    def keep(self) -> None:
        """Copy the ledgers of the runs, once: from now on the search needs them no more."""
        for source in self.sources:
            if self._state is not None:
                source.keep(self._state)

    @contextmanager
    def executor(
        self, inner: Executor, problem: Problem, identity: Identity, say: Callable[[str], None]
    ) -> Iterator[Executor]:
        """Lend an executor that gives the results of these runs, where they mean the same, and leaves all
        else to `inner`.

        Args:
            identity: of the search.
            say: told in one line for every run whether its results are taken over.
        """
        with ExitStack() as stack:
            known: list[CarriedResults] = []
            for source in self.sources:
                ledger = stack.enter_context(closing(source.open()))
                results = CarriedResults(
                    ledger,
                    source.run,
                    problem.space,
                    problem.evaluator,
                    identity,
                    stopped=self._asks_known,
                )
                longer = MoreEpochs(ledger, source.run, problem.space, problem.evaluator, identity)
                finished = results.genomes if len(results) else longer.genomes
                source.give_all(finished if self._asks_known and finished else None)
                say(_opening(results, longer))
                known += [results] if len(results) else []

            def find(candidate: Candidate) -> Known | None:
                return next(
                    (found for results in known if (found := results.find(candidate)) is not None), None
                )

            yield KnownResults(inner, find) if known else inner

    def summary(self, ledger: Ledger) -> list[str]:
        """Return a line for every run of whose results there are some in the search's ledger."""
        counts = {source.run: ledger.evaluated_by(f"from {source.run}") for source in self.sources}
        total = ledger.counts()["evaluations"]
        hint = (
            "; none is new: expected a larger search.budget.evaluations"
            if sum(counts.values()) == total
            else ""
        )
        return [f"{count} of {total} results came from {run}{hint}" for run, count in counts.items() if count]


def _opening(results: CarriedResults, longer: MoreEpochs) -> str:
    if longer.epochs is not None:
        return f"begins with candidates of {results.run}: {longer}"
    if results.refusal:
        return f"begins with candidates of {results.run}, which are evaluated anew: {results.refusal}"
    left = f"; {results.left_out} are not to be had in this space and left out" if results.left_out else ""
    return (
        f"begins with candidates of {results.run}: {len(results)} of its results mean the same here and are "
        f"not evaluated again{left}"
    )
