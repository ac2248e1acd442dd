"""What racing has saved, in one sentence."""

from __future__ import annotations

from dataclasses import dataclass

from evaluators.base import Cause, Evaluation
from evaluators.racing import SEEN
from search.executors.racing import RACE_NOTE
from search.record.ledger import Ledger


@dataclass(eq=False)
class RaceFacts:
    """Samples that were seen by candidates that raced.

    Attributes:
        raced: number of candidates that tell how many samples they have seen.
        beaten: of these, those that were stopped.
        seen: samples that all of them have seen together.
        split: samples that one of them sees that is not stopped.
    """

    raced: int = 0
    beaten: int = 0
    seen: float = 0.0
    split: float = 0.0

    @classmethod
    def of(cls, ledger: Ledger) -> RaceFacts:
        """Read a run; of one in which nothing races this takes no time."""
        facts = cls()
        for _, evaluation in ledger.evaluations() if ledger.note(RACE_NOTE) is not None else ():
            facts.add(evaluation)
        return facts

    def add(self, evaluation: Evaluation) -> None:
        """Count an evaluation; one that did not race changes nothing."""
        if SEEN in evaluation.metrics:
            self.raced += 1
            self.beaten += evaluation.cause is Cause.BEATEN
            self.seen += evaluation.metrics[SEEN]
            self.split = max(self.split, evaluation.metrics[SEEN])

    @property
    def sentence(self) -> str:
        """What a person reads; empty where nothing raced."""
        if not self.raced:
            return ""
        share = 100 * self.seen / (self.raced * self.split)
        return (
            f"racing: {share:.0f} % of the samples were seen, since {self.beaten:,} of {self.raced:,} "
            f"candidates were beaten by the front before they had seen all {self.split:,.0f}"
        )
