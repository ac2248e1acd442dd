"""The loop of a coevolution: submits cell steps as a graph, keeps the ledger, and goes on where an earlier
call ended.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from evaluators.base import Evaluation, State
from evaluators.pairs.evaluator import PairTraining
from evaluators.pairs.state import CellFiles
from search.budget import Budget
from search.coevolution.cell import CellStep, Outcome
from search.coevolution.grid import Grid, Stepped
from search.coevolution.rules import CellRules
from search.ending import Ending, EndingKind
from search.executors.base import Executor
from search.problem import Problem
from search.record.ledger import Ledger
from search.tally import SearchLoop
from spaces.errors import InputError

_TICK = 0.5  # seconds after which the loop looks up, events or not
_LOSSES = 3  # so often in a row may work be lost without a step done in between


class CellLoop(SearchLoop):
    """Runs the cells of a coevolution until all their steps are done or a budget is spent.

    A step is submitted once its neighbours' steps are, at most ``ahead`` steps before the last cell: there is
    no barrier, and what comes out does not depend on the order in which steps end. The ledger gets every step
    as it is done; the state of a pair lies in a file as long as a step to come needs it or it is on the
    front. To resume is to run: cells go on from their last recorded step.

    Args:
        problem: space, evaluator and goals.
        rules: of the coevolution.
        grid: runs the steps.
        executor: whose grid it is, for listeners.
        ledger: of this run.
        budget: when to stop; evaluations are cell steps, the first pairs included.
        seed: of the run.
        listeners: as of :class:`search.loop.Loop`.

    Attributes:
        busy: seconds that workers spent in steps.

    Raises:
        InputError: the evaluator trains no pairs, or has no place for states.
    """

    def __init__(
        self,
        problem: Problem,
        rules: CellRules,
        grid: Grid,
        executor: Executor,
        ledger: Ledger,
        budget: Budget,
        *,
        seed: int = 0,
        listeners: Sequence[object] = (),
    ) -> None:
        rules.check(problem)
        self._total = rules.candidates
        self._limit = min(self._total, budget.evaluations or self._total)
        super().__init__(problem, executor, ledger, replace(budget, evaluations=self._limit), listeners)
        self.rules, self.grid, self.busy = rules, grid, 0.0
        folder = problem.evaluator.state
        if folder is None:
            raise InputError("strategy: Coevolution keeps pairs in files; expected a run with a directory")
        self.files = CellFiles(folder)
        self._work = CellStep(rules, problem.space, problem.evaluator, training_of(problem), seed, self.files)  # type: ignore[arg-type]
        self._meets = rules.neighbourhoods
        self._cells = len(self._meets)
        self._next = [0] * self._cells  # the step that each cell does next
        self._sent = [0] * self._cells  # the step that is submitted next
        self._flying: set[int] = set()
        self._kept: set[int] = set()  # files on disk
        self._lost = 0
        self._leave = False

    @property
    def running(self) -> int:
        """Number of steps submitted and not done."""
        return len(self._flying)

    def run(self) -> Ending:
        """Run to the end and return why it ended: STEPS where all are done."""
        try:
            return self.tally.run(self.ledger, self._search)
        finally:
            self.grid.close()

    def interrupt(self) -> None:
        """Submit nothing more and give up the steps under way, at most one a worker; what is done is kept.
        Safe in a signal handler.
        """
        self._leave, self.tally.ending = True, Ending(EndingKind.INTERRUPTED)

    def _search(self) -> Ending:
        self._replay()
        self._begin()
        while self._flying and not self._leave:
            self._tick()
        if self._done == self._total:
            self.tally.end(EndingKind.STEPS)
        elif self._done >= self._limit:
            self.tally.end(EndingKind.EVALUATIONS)
        return self.tally.ending or Ending(EndingKind.INTERRUPTED)

    # -- from the ledger -------------------------------------------------------------------------------------

    def _replay(self) -> None:
        """Bring front and cells to where the ledger ends."""
        self.tally.recall(self.ledger)
        for _, evaluation in self.ledger.evaluations():
            if evaluation.state is not State.COMPLETE:
                continue
            step, cell = divmod(evaluation.candidate.id, self._cells)
            self._next[cell] = max(self._next[cell], step + 1)
            self._count(evaluation)
            self.restored += 1
        self._kept = self.files.ids()

    def _begin(self) -> None:
        """Give the grid the states that steps to come need, and submit the first of these."""
        if self._finished():
            return
        self.grid.start(self._work)
        self._sent = list(self._next)
        self._flying.clear()
        for id in sorted(self._needed()):
            self.grid.restore(id, self.files.read(id))
        self._submit()

    def _needed(self) -> set[int]:
        """The done steps whose pairs a step to come needs."""
        return {
            (step - 1) * self._cells + other
            for cell, meets in enumerate(self._meets)
            for other in meets
            for step in range(max(1, self._next[cell]), min(self._next[other], self.rules.steps) + 1)
        }

    # -- one round -------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        stepped = self.grid.events(max(0.0, min(_TICK, self.tally.seconds_left)))
        lost = [event for event in stepped if event.evaluation is None]
        for event in stepped:
            if event.evaluation is not None:
                self._record(event.evaluation)
        self.tally.keep_time(self.ledger)
        self.ledger.commit()  # before anybody hears of it, and before any file goes
        if self.tally.overtime():
            self._stop(EndingKind.SECONDS)
        if lost and not self._leave:
            self._recover(lost)
        else:
            self._tidy()
            self._submit()
        self.tally.tick(self)

    def _stop(self, kind: EndingKind, detail: str = "") -> None:
        self._leave = True
        self.tally.end(kind, detail)

    def _record(self, evaluation: Evaluation) -> None:
        id = evaluation.candidate.id
        self._flying.discard(id)
        if evaluation.state is State.FAILED:  # the neighbours wait for it: nothing can go on
            step, cell = divmod(id, self._cells)
            self._leave = True
            self.tally.ending = Ending(EndingKind.FAILURES, f"cell {cell}, step {step}: {evaluation.reason}")
            return
        self._lost = 0
        self._next[id % self._cells] = id // self._cells + 1
        self._kept.add(id)
        self.ledger.add_candidates([evaluation.candidate])
        self.ledger.add_evaluation(evaluation)
        joined = self._count(evaluation)
        self.busy += evaluation.seconds
        self.tally.tell(evaluation, joined)

    def _count(self, evaluation: Evaluation) -> bool:
        self.tally.states[evaluation.state] += 1
        joined = self.tally.count(evaluation)
        self._leave = self._leave or self.tally.ending is not None
        return joined

    def _recover(self, lost: Sequence[Stepped]) -> None:
        """What Ray has given up is done again, from the files."""
        self._lost += not all(event.with_node for event in lost)
        if self._lost > _LOSSES:
            self._leave = True
            self.tally.ending = Ending(
                EndingKind.FAILURES, f"workers are lost again and again: {lost[0].lost}"
            )
            return
        self._begin()

    def _submit(self) -> None:
        """Submit what may be: within the budget, not too far ahead, neighbours first."""
        if self.tally.ending:
            return
        highest = min(self._next) + self.rules.ahead
        while step := self._lowest(highest):
            number, cell = step
            id = number * self._cells + cell
            needs = [(number - 1) * self._cells + other for other in self._meets[cell]] if number else []
            self.grid.submit(id, needs)
            self._sent[cell] += 1
            self._flying.add(id)
            self.asked = max(self.asked, id + 1)

    def _lowest(self, highest: int) -> tuple[int, int] | None:
        """The first step that is not submitted and whose neighbours' are, all ids before it being lower."""
        for number, cell in sorted((number, cell) for cell, number in enumerate(self._sent)):
            if number > min(highest, self.rules.steps) or number * self._cells + cell >= self._limit:
                continue
            if all(self._sent[other] >= number for other in self._meets[cell]):
                return number, cell
        return None

    def _tidy(self) -> None:
        """Let go of states that no step needs any more."""
        needed = self._needed() | self._flying
        front = {member.candidate.id for member in self.front.members}
        for id in self._kept - needed:
            self.grid.forget(id)
            if id not in front:
                self.files.remove(id)
        self._kept &= needed | front

    @property
    def _done(self) -> int:
        return sum(self._next)

    def _finished(self) -> bool:
        return self._done >= self._total or all(
            step * self._cells + cell >= self._limit for cell, step in enumerate(self._next)
        )


def training_of(problem: Problem) -> PairTraining:
    """Return the part of the evaluator that trains pairs.

    Raises:
        InputError: there is none.
    """
    for part in problem.evaluator.parts:
        if isinstance(part, PairTraining):
            return part
    raise InputError("evaluators: none of them trains pairs; Coevolution needs an evaluators.PairTraining")


def rehearse(problem: Problem, rules: CellRules, seed: int) -> tuple[CellStep, Outcome]:
    """Return the work of the cells, and the first cell's first pair, made and measured in this process.

    Raises:
        InputError: the space is none of pairs, nothing trains pairs, or a pair cannot be measured.
    """
    rules.check(problem)
    work = CellStep(rules, problem.space, problem.evaluator, training_of(problem), seed)  # type: ignore[arg-type]
    evaluation, outcome = work.run(0, [], lambda place: {})
    if outcome is None:
        raise InputError(
            f"model: a pair cannot be measured: {evaluation.reason}; expected outputs that the data's loss "
            f"takes"
        )
    return work, outcome


def step_seconds(problem: Problem, rules: CellRules, seed: int) -> float:
    """Return how long a cell step takes in this process: the second one of a cell among copies of its pair;
    the first warms up.

    Raises:
        InputError: as :func:`rehearse`, or a step that fails.
    """
    work, first = rehearse(problem, rules, seed)
    outcomes, seconds = [first] * len(rules.neighbourhoods[0]), 0.0
    for step in (1, 2):
        began = time.perf_counter()
        evaluation, outcome = work.run(
            step * len(rules.neighbourhoods), [o.state for o in outcomes], lambda place: {}
        )
        seconds = time.perf_counter() - began
        if outcome is None:
            raise InputError(
                f"strategy: a step of a cell fails: {evaluation.reason}; expected a pair that can be trained"
            )
        outcomes = [outcome] * len(outcomes)
    return seconds
