"""One strategy after another: each begins with what those before it found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evaluators.base import Candidate, Evaluation, Report
from search.ask_and_tell import declares_state
from search.problem import Problem
from search.stop import Stop
from search.strategy import Strategy
from spaces.errors import InputError


class Stages(Strategy):
    """Strategies by turns, each until it asks nothing more; those to come are told all that was evaluated
    before them. [O]

    So :class:`~search.strategies.pruning_lines.PruningLines` may lay out a front of trained candidates of all
    sizes, and :class:`~search.strategies.evolution.Evolution`, which begins with whatever it has been told,
    improves it with what is left of the budget. The last strategy goes on to the end of the search.

    Args:
        strategies: in their order; each but the last has to come to an end by itself.

    Raises:
        InputError: none is given.
    """

    def __init__(self, strategies: Sequence[Strategy]) -> None:
        if not strategies:
            raise InputError("Stages: strategies is empty; expected at least one")
        self.strategies = list(strategies)

    def start(self, problem: Problem, seed: int) -> None:
        super().start(problem, seed)
        self._stage = 0
        self._owners: dict[int, int] = {}  # candidate that is open -> the stage that asked it
        for strategy in self.strategies:
            strategy.start(problem, seed)

    @property
    def waiting(self) -> bool:
        return bool(self._owners)

    def ask(self, n: int) -> list[Candidate]:
        while True:
            strategy = self.strategies[self._stage]
            strategy._asked = self._asked  # ids count on
            asked = strategy.ask(n)
            if asked or self._owners or self._stage == len(self.strategies) - 1:
                break  # a stage ends when all that it asked has been told
            self._stage += 1
        self._asked = strategy._asked
        self._owners |= {candidate.id: self._stage for candidate in asked}
        return asked

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        for evaluation in evaluations:
            for strategy in self.strategies[self._owners.pop(evaluation.candidate.id) :]:
                strategy.tell([evaluation])

    def state(self) -> dict[str, Any] | None:
        states = [one.state() if declares_state(one) else None for one in self.strategies]
        if any(state is None for state in states):
            return None
        owners = [[id, stage] for id, stage in self._owners.items()]
        return self._counters() | {"stage": self._stage, "owners": owners, "strategies": states}

    def restore(self, state: dict[str, Any]) -> None:
        self._set_counters(state)
        self._stage = state["stage"]
        self._owners = dict(state["owners"])
        for strategy, its in zip(self.strategies, state["strategies"], strict=True):
            strategy.restore(its)

    def heirs(self) -> set[int] | None:
        found = [strategy.heirs() for strategy in self.strategies[self._stage :]]
        return (
            None
            if any(heirs is None for heirs in found)
            else set().union(*(heirs for heirs in found if heirs is not None))
        )

    def should_stop(self, candidate: Candidate, report: Report) -> bool | str | Stop:
        return self.strategies[self._owners[candidate.id]].should_stop(candidate, report)

    def recall(self, candidate: Candidate, reports: Sequence[Report]) -> None:
        self.strategies[self._owners[candidate.id]].recall(candidate, reports)
