"""Hyper-parameter search: Optuna proposes, the loop has trained, a pruner stops what is weak."""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping, Sequence
from typing import Any, Literal

from optuna.pruners import BasePruner, HyperbandPruner
from optuna.samplers import BaseSampler
from optuna.trial import Trial

from evaluators.base import Candidate, Cause, Evaluation, Report, State
from operators.initialisation import Initialisation
from search.curves import repeats
from search.problem import Problem
from search.pruners import NonDominationPruner
from search.stop import Stop
from search.strategies.monitor import Monitor, divergence
from search.strategy import Strategy
from search.tuning.sampling import SamplerName, Sampling
from spaces.errors import InputError

_log = logging.getLogger(__name__)


class Tuning(Strategy):
    """Asks a sampler of Optuna for trials of a :class:`~spaces.trials.TrialSpace`; after every report a
    pruner judges the trial. [O]

    The study lives in memory and is made again of the ledger on resume, reports included. With
    ``peers: told`` a trial is held against those only that were told before it was asked (and against its own
    reports), so the same seed gives the same run on any number of workers; that costs the pruner sight of the
    `lag` latest trials. ``all`` shows it everything reported so far.

    A report that is not finite stops the trial, with the reason, whatever the pruner. What is screened
    (``macs``, ``params``, ``bytes``) is a value of the trial from its first report on. A trial is not judged
    at a report that lacks a metric which the pruner is to see; a warning names the metric, once.

    Args:
        sampler: ``tpe``, ``random``, ``qmc``, ``nsgaii``, or a sampler of Optuna by class_path; its
            generators follow from the run's seed.
        pruner: of Optuna, or one of ``search.pruners``; null: nothing is stopped. For several objectives:
            NonDominationPruner, which is given all of them.
        startup: random trials before TPE models anything.
        monitor: what is reported to the pruner: ``METRIC``, ``max METRIC`` or a sum such as
            ``loss + tic_bias``; null: the first objective.
        peers: which other trials the pruner sees, ``told`` or ``all``.
        starting_points: parameters of trials that are asked first, ``[{model.width: 32}, ...]``; those that a
            point leaves out are drawn at random.
        initialisation: what is asked next, before the sampler draws: :class:`~search.FromRun`, trials of
            another run, of which those whose results mean the same here are not evaluated again.

    Raises:
        InputError: a setting out of its range; at the start: a space that is no TrialSpace, a metric that is
            not reported, a sampler or pruner that cannot serve the number of objectives, a starting point
            that the space does not have.
    """

    asks_known = True
    later_arguments = ("starting_points", "initialisation")

    def __init__(
        self,
        sampler: SamplerName | BaseSampler = "tpe",
        pruner: BasePruner | NonDominationPruner | None = None,
        startup: int = 10,
        monitor: str | None = None,
        peers: Literal["told", "all"] = "told",
        starting_points: Sequence[dict[str, Any]] | None = None,
        initialisation: Initialisation | None = None,
    ) -> None:
        if startup < 1:
            raise InputError(f"strategy: startup {startup}; expected at least 1")
        if isinstance(pruner, HyperbandPruner) and pruner._max_resource == "auto":
            raise InputError(
                "strategy: HyperbandPruner max_resource 'auto' makes brackets depend on timing; expected a "
                "number of epochs"
            )
        if monitor is not None:
            Monitor(monitor)
        self.sampler, self.pruner, self.startup, self.monitor = sampler, pruner, startup, monitor
        self.peers = peers
        self.starting_points = None if starting_points is None else [dict(point) for point in starting_points]
        self.initialisation = initialisation

    def start(self, problem: Problem, seed: int) -> None:
        super().start(problem, seed)
        if len(problem.objectives) > 1 and isinstance(self.pruner, BasePruner):
            raise InputError(
                f"strategy: pruner {type(self.pruner).__name__} cannot serve {len(problem.objectives)} "
                f"objectives; "
                "expected search.pruners.NonDominationPruner or null"
            )
        self._sampling = Sampling(
            problem,
            self.sampler,
            self.pruner if isinstance(self.pruner, BasePruner) else None,
            seed,
            self.startup,
        )
        self._sampling.begin_with(self.starting_points or (), self.initialisation)
        watched = [self.monitor or str(problem.objectives[0])]
        if isinstance(self.pruner, NonDominationPruner):
            watched = [str(objective) for objective in problem.objectives]
        self._monitors = [Monitor(text) for text in watched]
        for monitor in self._monitors:
            monitor.check("strategy: monitor", reported(problem))
        self._open: dict[int, Trial] = {}
        self._told: list[int] = []  # trial numbers, as they were told
        self._sight: dict[int, int] = {}  # how many had been told when a candidate was asked
        self._last: dict[int, int] = {}  # the last step judged
        self._heard: dict[int, list[dict[str, float]]] = {}  # metrics of the reports so far
        self._costs: dict[int, Mapping[str, float]] = {}  # what is screened of an open candidate
        self._warned: set[str] = set()  # metrics that were missing in a report

    def ask(self, n: int) -> list[Candidate]:
        candidates: list[Candidate] = []
        while len(candidates) < n and (drawn := self._sampling.draw()) is not None:
            candidate = self._candidate(drawn.genome, operator=drawn.origin or operator_name(self.sampler))
            self._open[candidate.id], self._sight[candidate.id] = drawn.trial, len(self._told)
            candidates.append(candidate)
        return candidates

    def should_stop(self, candidate: Candidate, report: Report) -> bool | str | Stop:
        if why := divergence(report):
            return why
        if self.pruner is None or report.step <= self._last.get(candidate.id, 0):
            return False  # no pruner, or judged already: a lost worker begins again
        self._last[candidate.id] = report.step
        if self._repeats(candidate.id, report):
            return False
        trial = self._open[candidate.id]
        with self._sampling.storage.only(self._seen(candidate.id, trial.number)):
            weak = self._judge(trial, report, self._screened(candidate))
        return f"{type(self.pruner).__name__} at step {report.step}" if weak else False

    def hears_known(self, candidate: Candidate, report: Report) -> bool | str | Stop:
        self.should_stop(candidate, report)  # for what sampler and pruner keep of it
        return False

    def recall(self, candidate: Candidate, reports: Sequence[Report]) -> None:
        # told again for what sampler and pruner keep of them; what was decided then stands in the ledger
        for report in reports:
            self.should_stop(candidate, report)

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        for evaluation in evaluations:
            id = evaluation.candidate.id
            trial = self._open.pop(id)
            self._sight.pop(id)
            self._last.pop(id, None)
            self._heard.pop(id, None)
            self._costs.pop(id, None)
            self._told.append(trial.number)
            if evaluation.state is State.COMPLETE:
                self._sampling.complete(trial, evaluation.metrics)
            elif evaluation.state is State.FAILED:
                self._sampling.failed(trial)
            elif evaluation.cause is Cause.DIVERGED:
                self._sampling.diverged(trial)
            else:
                self._sampling.pruned(trial)

    def _judge(self, trial: Trial, report: Report, screened: Mapping[str, float]) -> bool:
        known = {**screened, **report.metrics}
        values = [monitor(known) for monitor in self._monitors]
        missing = [name for monitor in self._monitors for name in monitor.missing(known)]
        self._warn(missing, report.step)
        if isinstance(self.pruner, NonDominationPruner):
            self.pruner.report(trial, values, report.step)
            return not missing and self.pruner.judge(trial.study, trial)
        if missing:  # to pruners of Optuna what is not a number is as bad as can be
            return False
        for name, value in self._monitors[0].attributes(report).items():
            trial.set_user_attr(name, value)
        trial.report(values[0], report.step)
        return trial.should_prune()

    def _screened(self, candidate: Candidate) -> Mapping[str, float]:
        """Return what is screened of a candidate, where a monitor looks at any of it."""
        evaluator = self.problem.evaluator
        if not any(name in evaluator.screened for monitor in self._monitors for name in monitor.metrics):
            return {}
        if candidate.id not in self._costs:
            found = evaluator.screen(candidate.genome[None])
            self._costs[candidate.id] = {name: float(values[0]) for name, values in found.items()}
        return self._costs[candidate.id]

    def _warn(self, missing: Sequence[str], step: int) -> None:
        """Say once of a metric that the pruner waits for it."""
        for name in missing:
            if name not in self._warned:
                self._warned.add(name)
                kind = type(self.pruner).__name__
                _log.warning("%s is not known at step %d; %s stops no trial before it is", name, step, kind)

    def _repeats(self, id: int, report: Report) -> bool:
        """Whether a report only says that an earlier epoch's weights were put back: the training is over,
        there is nothing to judge.
        """
        heard = self._heard.setdefault(id, [])
        heard.append(report.metrics)
        return repeats(report.metrics, heard[:-1])

    def _seen(self, id: int, number: int) -> Container[int] | None:
        """Numbers of the trials that a candidate is held against, its own included; None: all."""
        return {*self._told[: self._sight[id]], number} if self.peers == "told" else None


def reported(problem: Problem) -> set[str]:
    """Return the names of the metrics that a report may carry."""
    return {*problem.evaluator.screened, *problem.evaluator.metrics}


def operator_name(sampler: SamplerName | BaseSampler) -> str:
    """Return what a candidate's operator says of the sampler that drew it."""
    return sampler if isinstance(sampler, str) else type(sampler).__name__
