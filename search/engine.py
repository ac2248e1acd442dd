"""The engine: assembles what a user gives, searches, finishes and reports. Command and library
both use it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from evaluators.base import Evaluator, Evaluators
from evaluators.cost.evaluator import Cost, smallest
from evaluators.data.base import Data
from evaluators.quality import Quality
from evaluators.training.evaluator import Training
from evaluators.training.own import own_training
from operators.criteria import Criterion
from search import report
from search.budget import Budget
from search.ending import Ending, EndingKind
from search.executors.base import Executor
from search.executors.inline import InlineExecutor
from search.finish.export import ModelSource
from search.finish.finish import Finish
from search.finish.finished_models import is_finished
from search.interruption import interruptible
from search.listeners import RunFacts
from search.listeners.telling import Telling
from search.problem import Constraint, Objective, Problem
from search.progress import Progress, SearchProgress
from search.record.about import About
from search.record.directory import RunDirectory
from search.record.finals import load_finals
from search.record.identity import Identity, take_former_defaults
from search.record.identity_format1 import identify
from search.record.ledger import Ledger
from search.record.lock import RunLock
from search.record.retry import is_stuck
from search.report.race_facts import RaceFacts
from search.result import Result
from search.setup.baseline import Baseline
from search.setup.damage import check_inherited, check_weights
from search.setup.limits import attainable
from search.setup.needs import Needs, check_model, in_type_of
from search.setup.planning import RunPlan, make_plan
from search.setup.preparation import MakeSpace, Preparation, default_criteria
from search.setup.untouched import PostponedProblem, is_untouched, seal_of
from search.strategies.evolution import Evolution
from search.strategy import SearchStrategy
from search.study import StudyView
from search.tally import SearchLoop
from search.warm_start.warm_start import WarmStart
from spaces.base import Space
from spaces.calling import gradients
from spaces.channels import ChannelSpace
from spaces.errors import InputError

BASE_NOTE, GUIDE_NOTE, STEPS_NOTE, BUDGET_NOTE, SEAL_NOTE = "base", "guide", "steps", "budget", "stamp"
"""Names in the ledger: metrics of the base model, its scores, steps of widths that were left to the runtime,
the budget of the latest call, and what the run followed from then.
"""


class Search:
    """A search from beginning to end: base model, space, loop, fine-tuning, export, report; resumed where an
    earlier call left it.

    Five lines are a search::

        search = Search(model, data, constraints=["macs <= 50%"])
        result = search.run(evaluations=500)
        print(result.front[0].metrics)
        smaller = result.build(0)
        result.export("smaller", 0)

    Args:
        model: the base model; None for a space that builds its own models.
        data: of the run; a pair ``(inputs, targets)`` of arrays (or two, the second for tests) becomes
            :class:`~evaluators.data.Arrays`, a DataLoader or a dataset :class:`~evaluators.data.Loaders`.
        space: what may vary, or a function of model and example that makes it; None: the channels of `model`.
        evaluators: what is measured; None: cost, and quality on the search split.
        objectives: ``"macs"``, ``"min macs"`` or ``"max accuracy"``.
        constraints: ``"macs <= 50%"`` of the base model, ``"latency_ms <= 3"``.
        strategy: how to look; None: :class:`Evolution`. A :class:`~search.Coevolution` needs a space of
            pairs.
        executor: where candidates are evaluated; None: in this process.
        directory: of the run; None keeps it in memory, without fine-tuning, export and report.
        training: how to train the base model first; None: it comes with its weights. A function of your own
            is called as :class:`~evaluators.training.OwnTraining` says, here and among the evaluators.
        criteria: scores of the base model's channels that guide the strategy; None: magnitude, Taylor and
            activation.
        finish: what becomes of the front at the end; None: its defaults.
        seed: of everything that is random.
        order: see :class:`~search.loop.Loop`; so are `lag` and `chunk`.
        study: whether an Optuna view of the run is written.
        storage: database URL of that view; None: a file in the run's directory.
        origin: how recipes make the base model again; None: whoever loads an exported model gives it.
        config: text of the configuration, kept in the directory.
        progress: where the run is shown; None: below the cell of a notebook, and nowhere else.
        listeners: told of the run: objects with methods of :class:`~search.listeners.Listener`.
        device: where this process trains and evaluates the base model, and times candidates for a plan; the
            search's are where the executor has them.

    Raises:
        InputError: here or in :meth:`run`, of anything that does not fit, in one line.
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        data: Data | Any = None,
        *,
        space: Space | MakeSpace | None = None,
        evaluators: Sequence[Evaluator | Callable[..., Any]] | None = None,
        objectives: Sequence[str] = ("error", "macs"),
        constraints: Sequence[str] = (),
        strategy: SearchStrategy | None = None,
        executor: Executor | None = None,
        directory: str | Path | None = None,
        training: Training | Callable[..., Any] | None = None,
        criteria: Sequence[Criterion] | None = None,
        finish: Finish | None = None,
        seed: int = 0,
        order: Literal["strict", "arrival"] = "strict",
        lag: int = 32,
        chunk: int = 8,
        study: bool = True,
        storage: str | None = None,
        origin: ModelSource | None = None,
        config: str | None = None,
        progress: Progress | None = None,
        listeners: Sequence[object] = (),
        device: str = "cpu",
    ) -> None:
        check_model(model)
        data = None if data is None else in_type_of(data, model, space, seed)
        parts = [Cost(), Quality()] if evaluators is None else [own_training(one) for one in evaluators]
        self.directory = None if directory is None else Path(directory)
        self.preparation = Preparation(
            model,
            data,
            ChannelSpace if space is None else space,
            parts[0] if len(parts) == 1 else Evaluators(parts),
            tuple(Objective.parse(text) for text in objectives),
            tuple(Constraint.parse(text) for text in constraints),
            None
            if training is None or model is None or data is None
            else Baseline(model, data, own_training(training), seed, self._weights_folders()),
            default_criteria() if criteria is None else list(criteria),
            seed,
            device,
        )
        self.strategy: SearchStrategy = strategy or Evolution()
        self.finish = finish or Finish()
        written = directory is not None
        self.preparation.needs = Needs(
            base=self.strategy.starts_from_base,
            finishing=written and self.finish.members > 0,
            tuning=written and self.finish.tunes,
            training=self.preparation.baseline is not None,
            own_tuning=written and self.finish.tune is not None,
            quantising=written and self.finish.members > 0 and self.finish.quantise is not None,
            scoring=self.strategy.starts_from_base and len(self.preparation.criteria) > 0,
        )
        self._warm = WarmStart(
            self.strategy, None if self.directory is None else RunDirectory(self.directory).state
        )
        self.executor = executor or InlineExecutor()
        self.seed, self.order, self.lag, self.chunk = seed, order, lag, chunk
        self.study, self.storage, self.origin, self.config = study, storage, origin, config
        self.progress = progress or Progress.of_notebook()
        self.listeners = tuple(listeners)
        settings = {"order": order, "lag": str(lag), "chunk": str(chunk), "seed": str(seed)}
        self._order = Identity(settings, settings)
        self._settings = identify("strategy", self.strategy) | self._order
        self._limits = Budget()
        self._prepared: Problem | None = None
        self._memory: Ledger | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def plan(
        self,
        evaluations: int | None = 1000,
        seconds: float | None = None,
        stall: int | None = None,
        epochs: float | None = None,
        target: dict[str, float] | None = None,
    ) -> RunPlan:
        """Tell what a run would be: groups, what is frozen and why, what can be reached, how long it takes.
        Trains and searches nothing.

        Raises:
            InputError: as :meth:`run` would, but for limits out of reach, which the plan shows.
        """
        with gradients():
            return self._plan(self._budget(Budget(evaluations, seconds, stall, epochs, target)))

    def _plan(self, limits: Budget) -> RunPlan:
        self.preparation.untrained()
        space = self.preparation.make_space()
        self._warm.check(space)
        problem = self.preparation.check(space, rehearse=True, reachable=False)
        self.preparation.check_needs(problem)
        base = problem.screened_base()
        found = attainable(problem.space, self.preparation.data, problem.evaluator, problem.constraints, base)
        least = smallest(problem.space, self.preparation.data) if base else {}
        # the executor has not been started: its capacity may still grow
        workers = max(self.executor.capacity, self.executor.workers or os.cpu_count() or 1)
        candidate_seconds = self.strategy.candidate_seconds(problem, self.seed)
        most = self.strategy.most_candidates()
        if most is not None:
            known = limits.evaluations
            limits = replace(limits, evaluations=most if known is None else min(known, most))
        return make_plan(
            problem,
            base,
            least,
            found,
            workers,
            limits,
            self.seed,
            candidate_seconds,
            self.preparation.device,
        )

    def run(
        self,
        evaluations: int | None = 1000,
        seconds: float | None = None,
        stall: int | None = None,
        epochs: float | None = None,
        target: dict[str, float] | None = None,
    ) -> Result:
        """Search until a limit is reached, then fine-tune and export some of the front; go on where an
        earlier call ended.

        Args:
            evaluations: candidates in all, those of earlier calls included.
            seconds: of searching in all, those of earlier calls included.
            stall: candidates in a row that do not enlarge the front's hypervolume.
            epochs: of training the base model, which training all candidates may take: see
                :class:`~search.budget.Budget`.
            target: values of objectives at which a feasible candidate ends the search: likewise.

        Raises:
            InputError: of the first thing that does not fit, before any candidate is evaluated.
            KeyboardInterrupt: at the second Ctrl-C, or at one outside the search; what was found is kept.
        """
        budget = self._limits = self._budget(Budget(evaluations, seconds, stall, epochs, target))
        if (known := self._untouched(budget)) is not None:
            return known
        with contextlib.ExitStack() as stack:
            stack.enter_context(gradients())
            directory, problem, ledger = self._enter(stack)
            earlier = _lasting_ending(ledger, budget, self.order)
            telling = Telling(self.listeners, self.progress.say)
            stack.enter_context(telling.run(lambda: self._facts(directory, problem), earlier is None))
            with self._view(directory, needed=earlier is None):
                ending = earlier or self._search(problem, ledger, budget, telling)
                changed = not ending.unfinished and self._finish(directory, problem, ledger)
                complete = earlier is not None and not changed
                result = self._result(directory, problem, ledger, ending, complete)
            if changed and earlier is not None:
                self._show_finished(directory)
            telling.end(result)
            if self.config is not None and not ending.unfinished:
                ledger.save_note(SEAL_NOTE, seal_of(self.config, self.preparation.untraced()))
                ledger.commit()
            return result

    def _budget(self, budget: Budget) -> Budget:
        """See that a budget limits what there is."""
        budget.check([objective.metric for objective in self.preparation.objectives])
        return budget

    def _untouched(self, budget: Budget) -> Result | None:
        """Return the result of a run that is complete, where config, weights and sources are byte for byte
        what they were; None of any other, which has to be looked at.
        """
        if self.directory is None or self.config is None:
            return None
        directory = RunDirectory(self.directory.absolute())
        viewed = not self.study or self.storage is not None or directory.study.exists()
        if not (directory.ledger.is_file() and directory.report.exists() and viewed):
            return None
        with contextlib.closing(Ledger.reader(directory.ledger)) as ledger:
            ending, seal = _lasting_ending(ledger, budget, self.order), ledger.note(SEAL_NOTE)
            if ending is None or not is_untouched(seal, self.config, self.preparation.untraced()):
                return None
            if not is_finished(ledger, directory.path):
                return None
            preparation = self.preparation
            goals = preparation.objectives, preparation.constraints
            problem = PostponedProblem(self._made, *goals, ledger.note(BASE_NOTE) or {})
            return Result.read(ledger, problem, directory.path, ending, complete=True)

    def _made(self) -> Problem:
        """Return the problem of a run that is complete: its base model was trained before."""
        self._recall()
        self.preparation.untrained()
        return self.preparation.check(self.preparation.make_space())

    def export(self) -> Result:
        """Fine-tune and export members of the front as it is, without searching on; where the run is in
        memory there is nothing to do.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(gradients())
            directory, problem, ledger = self._enter(stack)
            with self._view(directory, needed=False):
                changed = self._finish(directory, problem, ledger)
            ending = Ending.read(ledger.note) or Ending(EndingKind.INTERRUPTED)
            result = self._result(directory, problem, ledger, ending, complete=not changed)
            if changed:
                self._show_finished(directory)
            return result

    def _weights_folders(self) -> list[Path]:
        """Where trained base weights lie: with the run, and with all runs beside it."""
        return (
            []
            if self.directory is None
            else [RunDirectory(self.directory).state, self.directory.parent / ".cache"]
        )

    def _enter(self, stack: contextlib.ExitStack) -> tuple[RunDirectory | None, Problem, Ledger]:
        """Take hold of the run's directory, see that everything fits, open the ledger; `stack` gives it all
        back.
        """
        self._recall()
        space = self._first_space()
        directory = None if self.directory is None else RunDirectory.create(self.directory)
        if directory is not None:
            stack.enter_context(_held(directory))
        stack.callback(self.executor.close)
        problem = self._prepare(directory, space)
        if directory is None or not directory.ledger.exists():
            self.strategy.rehearse(problem, self.seed)  # what it refuses shall leave no run behind
        self.preparation.check_needs(problem)
        if directory is None:
            ledger = self._memory = self._memory or Ledger(None, problem.space)
        else:
            ledger = Ledger(directory.ledger, problem.space)
            stack.callback(ledger.close)
            self._claim(ledger, problem.space)
            ledger.save_note(STEPS_NOTE, self.preparation.steps)
            self._warm.keep()
            if self.preparation.baseline is not None:
                for file in self.preparation.baseline.damaged:
                    self.progress.say(f"{file}: damaged; replaced by its copy")
                self.preparation.baseline.keep()  # the run has its own copy: a cache may be emptied
            directory.write_environment()
            if self.config is not None:
                directory.write_config(self.config)
        problem.evaluator.state = self._state(directory)
        check_inherited(problem.evaluator, ledger)
        if self.preparation.baseline is not None:
            check_weights(self.preparation.baseline.model, ledger)
        self._know_base(problem, ledger)
        return directory, problem, ledger

    def _recall(self) -> None:
        """Let the steps of widths be those that the run began with."""
        file = None if self.directory is None else RunDirectory(self.directory).ledger
        if file is not None and file.is_file():
            with contextlib.closing(Ledger.reader(file)) as ledger:
                if ledger.identity is not None:
                    self.preparation.steps = ledger.note(STEPS_NOTE) or {}

    def _state(self, directory: RunDirectory | None) -> Path | None:
        """The folder of heavy state, absolute: a worker runs in another one."""
        if directory is not None:
            return directory.state.absolute()
        if not self.strategy.needs_state and not self.preparation.evaluator.inherits:
            return None
        self._temporary = self._temporary or tempfile.TemporaryDirectory(prefix="secateur-")
        return Path(self._temporary.name)

    def _first_space(self) -> Space | None:
        """See that a run to begin with fits the space, before there is a folder; return the space where it is
        made and will stay.
        """
        if self._prepared is not None or not self._warm.checks:
            return None
        untrained = self.preparation.untrained()
        space = self.preparation.make_space()
        self._warm.check(space)
        return None if untrained else space

    def _prepare(self, directory: RunDirectory | None, space: Space | None) -> Problem:
        """Train the base model where it is yet to be, but only when everything else has been seen to fit."""
        if self._prepared is None:
            preparation = self.preparation
            if preparation.untrained():
                rehearsed = preparation.check(preparation.make_space(), rehearse=True)
                self._loop(rehearsed, Ledger(None, rehearsed.space), self._limits)  # sees what does not fit
                preparation.check_needs(rehearsed)
                if directory is not None and directory.ledger.exists():
                    with contextlib.closing(Ledger(directory.ledger, rehearsed.space)) as ledger:
                        self._claim(ledger, rehearsed.space)
                # a cluster that does not answer shows now, not after the training
                self.executor.start(rehearsed.space, rehearsed.evaluator)
                for file in preparation.baseline.damaged if preparation.baseline else ():
                    self.progress.say(f"{file}: damaged; the base model is trained again")
                preparation.train(self.progress)
                space = None  # it was made over other weights
            self._prepared = preparation.check(preparation.make_space() if space is None else space)
        return self._prepared

    def _identity(self, space: Space) -> Identity:
        return self.preparation.identity(space) | self._settings

    def _claim(self, ledger: Ledger, space: Space) -> None:
        """Bind a ledger to this run; what the strategy leaves open is as it was when the run began."""
        if take_former_defaults("strategy", self.strategy, ledger.identity or {}):
            self._settings = identify("strategy", self.strategy) | self._order
        ledger.claim(self._identity(space))

    def _know_base(self, problem: Problem, ledger: Ledger) -> None:
        """Evaluate and score the base model once in the life of a run."""
        base = ledger.note(BASE_NOTE)
        if base is None:
            whole = self.strategy.starts_from_base
            base = self.preparation.base(problem) if whole else problem.screened_base()
            ledger.save_note(BASE_NOTE, base)
            if whole:
                ledger.save_arrays(GUIDE_NOTE, self.preparation.guide(problem))
        problem.base, problem.guide = base, ledger.load_arrays(GUIDE_NOTE) or {}
        About.of(self.directory.name if self.directory else "search", problem, self.strategy).save(ledger)
        ledger.commit()

    def _loop(
        self,
        problem: Problem,
        ledger: Ledger,
        budget: Budget,
        listeners: Sequence[object] = (),
        executor: Executor | None = None,
    ) -> SearchLoop:
        return self.strategy.make_loop(
            problem,
            executor or self.executor,
            ledger,
            budget,
            seed=self.seed,
            order=self.order,
            lag=self.lag,
            chunk=self.chunk,
            listeners=listeners,
        )

    def _facts(self, directory: RunDirectory | None, problem: Problem) -> RunFacts:
        """Return what listeners are told of the run."""
        return RunFacts(
            directory.path.name if directory else "search",
            directory.path if directory else None,
            tuple(map(str, problem.objectives)),
            tuple(map(str, problem.constraints)),
            self._identity(problem.space).lines,
            problem.space.describe,
        )

    def _search(self, problem: Problem, ledger: Ledger, budget: Budget, telling: Telling) -> Ending:
        """Run the loop to its end, shown and interruptible; return why it ended."""
        counts = ledger.counts()
        done = counts["evaluations"]
        if counts["failed"] and is_stuck(ledger, self.order):
            self.progress.say(f"{counts['failed']} candidates failed in earlier calls: they are tried again")
        place = f" in {self.directory}" if self.directory else ""
        earlier = f", going on after {done} evaluations" if done else ""
        shown = SearchProgress(self.progress, f"searching{place}{earlier}")
        with self._warm.executor(
            self.executor, problem, self._identity(problem.space), self.progress.say
        ) as executor:
            loop = self._loop(
                problem, ledger, budget, (shown, *([telling] if self.listeners else [])), executor
            )
            with self.progress.stage(), interruptible(loop.interrupt, self.progress.say):
                ending = loop.run()
        for line in self._warm.summary(ledger):
            self.progress.say(line)
        if words := RaceFacts.of(ledger).sentence:
            self.progress.say(words)
        if ending.kind is not EndingKind.DISK_FULL:
            ledger.save_note(BUDGET_NOTE, budget.as_note())
            ledger.commit()
        return ending

    def _finish(self, directory: RunDirectory | None, problem: Problem, ledger: Ledger) -> bool:
        """Fine-tune, verify and export what is not yet; whether anything was done."""
        if directory is None:
            return False
        before = load_finals(ledger)
        with self.progress.stage():
            after = self.finish.run(
                problem,
                self.executor,
                ledger,
                directory.path,
                origin=self.origin,
                seed=self.seed,
                progress=self.progress.step,
            )
        return before != after

    @contextlib.contextmanager
    def _view(self, directory: RunDirectory | None, needed: bool) -> Iterator[None]:
        """Let the Optuna view follow the ledger meanwhile; where nothing is searched, only if it
        is missing.
        """
        wanted = (
            self.study
            and directory is not None
            and (needed or (self.storage is None and not directory.study.exists()))
        )
        view = StudyView(directory.path, self.storage) if wanted and directory is not None else None
        refused = False
        try:
            yield
        except InputError:
            refused = True  # which the view may have found as well: one line is enough
            raise
        finally:
            complaint = view.finish() if view is not None else ""
            if complaint and not refused:
                self.progress.say(complaint)

    def _show_finished(self, directory: RunDirectory | None) -> None:
        """Let the Optuna view show what was finished where nothing was searched."""
        with self._view(directory, needed=True):
            pass

    def _result(
        self, directory: RunDirectory | None, problem: Problem, ledger: Ledger, ending: Ending, complete: bool
    ) -> Result:
        written = directory is not None and complete and directory.report.exists()
        if directory is not None and not written and ending.kind is not EndingKind.DISK_FULL:
            report.write_report(directory.path)
        result = Result.read(ledger, problem, directory.path if directory else None, ending, complete)
        return replace(result, keep=self._temporary)


@contextlib.contextmanager
def _held(directory: RunDirectory) -> Iterator[None]:
    """Own a run meanwhile; where a mistake came before there was one, nothing of it is left."""
    with RunLock(directory.lock) as lock:
        try:
            yield
        finally:
            if not directory.ledger.exists():
                lock.remove()
                with contextlib.suppress(OSError):  # weights of its base model may be there
                    directory.path.rmdir()


def _lasting_ending(ledger: Ledger, budget: Budget, order: Literal["strict", "arrival"]) -> Ending | None:
    """Return the end that the search came to, None where it has come to none or this budget undoes it."""
    ending = Ending.read(ledger.note)
    if ending is None or ending.unfinished or is_stuck(ledger, order):
        return None
    if budget.evaluations is not None and ledger.counts()["evaluations"] >= budget.evaluations:
        return ending
    if budget.seconds is not None and (ledger.note("elapsed") or 0.0) >= budget.seconds:
        return ending
    if ending.kind in (EndingKind.EXHAUSTED, EndingKind.STEPS):
        return ending
    if ending.kind in (EndingKind.STALL, EndingKind.EPOCHS):
        before, now = (ledger.note(BUDGET_NOTE) or {}).get(ending.kind), asdict(budget)[ending.kind]
        return ending if before is not None and now is not None and now <= before else None
    if ending.kind is EndingKind.TARGET:
        same = (ledger.note(BUDGET_NOTE) or {}).get("target") == budget.target
        return ending if same else None
    return None
