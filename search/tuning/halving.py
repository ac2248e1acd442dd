"""Synchronous successive halving: brackets in which the best of a rung go on from their checkpoints."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from optuna.samplers import BaseSampler
from optuna.trial import Trial

from evaluators.base import RESUME, Candidate, Cause, Evaluation, Report, State
from operators.initialisation import Initialisation
from search.problem import Problem
from search.stop import Stop
from search.strategies.monitor import Monitor, divergence
from search.strategies.rank_correlation import normal_scores
from search.strategy import Strategy
from search.tuning.sampling import SamplerName, Sampling
from search.tuning.strategy import operator_name, reported
from search.tuning.weighing import halving_score
from spaces.errors import InputError, require

_log = logging.getLogger(__name__)
_WEIGHTS = {"movement": 0.5}


@dataclass(eq=False)
class _Place:
    """A configuration in a rung of a bracket.

    Attributes:
        trial: of the study behind the sampler.
        bracket, rung: where it is, both from 0.
        seed: of its first candidate.
        origin: what it comes from where that is not the sampler.
    """

    trial: Trial
    genome: np.ndarray
    bracket: int
    rung: int
    seed: int = 0
    origin: str = ""


@dataclass(eq=False)
class _Rung:
    """The candidates of a rung, and which have come: ``(candidate, values of the monitors)``, None for one
    that cannot go on.
    """

    size: int
    came: list[tuple[int, tuple[float, ...] | None]] = field(default_factory=list)


class SuccessiveHalving(Strategy):
    """Successive halving (Jamieson and Talwalkar 2016 [P]) on the TIC score, as arXiv 2602.23219 uses it [P].

    A bracket draws `n` configurations and trains each for `minimum` epochs. Of a rung that is complete the
    best 1/`eta` go on: they are asked as new candidates with the genome of the paused one, which is their
    parent, and train on from its checkpoint to `eta` times as many epochs, the last ones to the end. While a
    rung is not complete the next bracket is begun, so that no worker waits. Every decision depends on whole
    rungs alone, so the run is the same on any number of workers. A trial that goes on
    counts once more in a budget.

    A trial whose report at a rung lacks a metric that ranks it stands behind those that have it; a warning
    names the metric, once.

    With `mix` that share of a rung's places goes to the best by `second_monitor`, the rest to the best others
    by `monitor`: half and half, by the validation loss and by the validation loss plus bias, was the safest
    rule in our pilots. [O]

    With `signals` a rung is ranked by normal scores: where a value stands among those of its rung, as a
    quantile of the normal distribution, so that signals of any scale add up. [O]

    With `weigh` signals add up in units of the loss, each as heavy as it can be right; a bracket as large as
    the budget has room for, the validation loss as `monitor`, TIC's ``gram``, and ``steady_loss`` with
    `bias_share` 0 as the objective is the rule of benchmarks/trial_pruning, with
    ``weights={"movement": 0.25, "tic_trace": 0.25}``. [O]

    Args:
        n: configurations of a bracket.
        brackets: how many; null: as many as the budget has room for.
        minimum: epochs to the first rung.
        eta: of a rung one in `eta` goes on, for `eta` times as many epochs.
        maximum: epochs of a whole training; null: those of the evaluator.
        monitor: what ranks: ``METRIC``, ``max METRIC`` or a sum such as ``loss + tic_bias``.
        mix: share of the places of a rung that `second_monitor` fills, 0 to 1.
        second_monitor: as `monitor`; null where `mix` is 0.
        signals: more metrics, with the weights of their normal scores beside that of `monitor`; not together
            with `mix`.
        weigh: rank by :func:`~search.tuning.weighing.halving_score` of `monitor`, a loss on the search split,
            ``train_loss``, ``mean_bias`` and ``movement``, and a rung of one epoch by the mean loss of
            training and search samples. Not together with `mix` or `signals`. [O]
        labels: that the loss on the search split is the mean over; null: one a sample. For `weigh` alone.
        weights: of the signals' normal scores, in standard errors of the loss; null: ``{movement: 0.5}``.
            For `weigh` alone. [O]
        sampler: as in :class:`~search.tuning.strategy.Tuning`; the paper's is ``random``.
        startup: random trials before TPE models anything.
        starting_points: as in :class:`~search.tuning.strategy.Tuning`: the first configurations.
        initialisation: likewise; a trial whose results are known is judged at each rung by its report there.

    Raises:
        InputError: a setting out of its range; at the start: a space that is no TrialSpace, a metric that is
            not reported, an evaluator that does not say its epochs.
    """

    later_arguments = ("starting_points", "initialisation", "weights")

    def __init__(
        self,
        n: int = 27,
        brackets: int | None = None,
        minimum: int = 1,
        eta: int = 3,
        maximum: int | None = None,
        monitor: str = "predicted_loss",
        mix: float = 0.0,
        second_monitor: str | None = None,
        signals: dict[str, float] | None = None,
        weigh: bool = False,
        labels: int | None = None,
        sampler: SamplerName | BaseSampler = "random",
        startup: int = 10,
        starting_points: Sequence[dict[str, Any]] | None = None,
        initialisation: Initialisation | None = None,
        weights: dict[str, float] | None = None,
    ) -> None:
        require(
            "strategy",
            (n >= 1, f"n {n}; expected at least 1"),
            (brackets is None or brackets >= 1, f"brackets {brackets}; expected at least 1 or null"),
            (minimum >= 1, f"minimum {minimum}; expected at least 1"),
            (eta >= 2, f"eta {eta}; expected at least 2"),
            (
                maximum is None or maximum >= minimum,
                f"maximum {maximum}; expected at least minimum ({minimum}), or null",
            ),
            (0 <= mix <= 1, f"mix {mix}; expected 0 to 1"),
            (
                mix == 0 or second_monitor is not None,
                f"second_monitor null; expected a metric, since mix is {mix}",
            ),
            (not signals or mix == 0, f"mix {mix}; expected 0 where there are signals"),
            (
                not weigh or (mix == 0 and not signals),
                "weigh true; expected neither mix nor signals beside it",
            ),
            (weights is None or weigh, f"weights {weights}; expected null where weigh is false"),
            (weights is None or len(weights) > 0, "weights {}; expected at least one metric, or null"),
            (labels is None or labels >= 1, f"labels {labels}; expected at least 1 or null"),
            (startup >= 1, f"startup {startup}; expected at least 1"),
        )
        self.signals = dict(signals or {})
        self.weigh, self.labels = weigh, labels
        self.weights = None if weights is None else dict(weights)
        self.n, self.brackets, self.minimum, self.eta = n, brackets, minimum, eta
        self.maximum, self.mix = maximum, mix
        self.monitor: str = monitor
        self.second_monitor, self.sampler = second_monitor, sampler
        self.startup = startup
        self.starting_points = None if starting_points is None else [dict(point) for point in starting_points]
        self.initialisation = initialisation

    def start(self, problem: Problem, seed: int) -> None:
        super().start(problem, seed)
        if len(problem.objectives) > 1:
            raise InputError(
                f"strategy: SuccessiveHalving cannot serve {len(problem.objectives)} objectives; expected one"
            )
        self._monitors = [Monitor(text) for text in (self.monitor, *self._beside())]
        for monitor in self._monitors:
            monitor.check("strategy: monitor", reported(problem))
        self.resources = rungs(self.minimum, self.eta, self._whole(problem))
        self._sizes = _sizes(problem) if self.weigh else (0, 0)
        self._sampling = Sampling(problem, self.sampler, None, seed, self.startup)
        self._sampling.begin_with(self.starting_points or (), self.initialisation)
        self._places: dict[int, _Place] = {}
        self._rungs: dict[tuple[int, int], _Rung] = {}
        self._promoted: deque[tuple[int, _Place]] = deque()  # parent, and where it goes
        self._bracket = self._begun = 0  # the bracket that is being filled, and how many it has
        self._exhausted = False
        self._warned: set[str] = set()  # metrics that were missing at a rung

    def ask(self, n: int) -> list[Candidate]:
        candidates: list[Candidate] = []
        while len(candidates) < n:
            if self._promoted:
                parent, place = self._promoted.popleft()
                # without its checkpoint it is trained from the beginning, and comes to the same weights
                candidate = replace(self._candidate(place.genome.copy(), (parent,), RESUME), seed=place.seed)
            else:
                new = self._begin()
                if new is None:
                    break
                place = new
                operator = place.origin or operator_name(self.sampler)
                candidate = self._candidate(place.genome.copy(), operator=operator)
                place.seed = candidate.seed
            self._places[candidate.id] = place
            candidates.append(candidate)
        return candidates

    @property
    def waiting(self) -> bool:
        return bool(self._rungs)

    def should_stop(self, candidate: Candidate, report: Report) -> bool | str | Stop:
        if why := divergence(report):
            return why
        rung = self._places[candidate.id].rung
        if rung == len(self.resources) or report.step < self.resources[rung]:
            return False
        return Stop(f"paused at rung {rung} (step {self.resources[rung]})", Cause.PAUSED)

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        for evaluation in evaluations:
            place = self._places[evaluation.candidate.id]
            if place.rung == len(self.resources):
                self._places.pop(evaluation.candidate.id)
                self._conclude(place.trial, evaluation)
            else:
                self._arrive(place, evaluation)

    def _beside(self) -> list[str]:
        """Return what ranks beside the monitor."""
        if self.weigh:
            return ["train_loss", "mean_bias", *(self.weights or _WEIGHTS)]
        return list(self.signals) if self.second_monitor is None else [self.second_monitor]

    def _whole(self, problem: Problem) -> int:
        epochs = self.maximum or problem.evaluator.epochs
        if epochs is None:
            raise InputError(
                f"strategy: maximum null, and {type(problem.evaluator).__name__} has no epochs; expected a "
                f"number"
            )
        return epochs

    def _begin(self) -> _Place | None:
        """Return a new configuration in the first rung of the bracket that is being filled; None where there
        is nothing to draw.
        """
        if self._begun == self.n:
            self._bracket, self._begun = self._bracket + 1, 0
        if self._exhausted or self._bracket == self.brackets:
            return None
        drawn = self._sampling.draw()
        if drawn is None:
            self._exhausted = True
            self._cut()
            return None
        if self._begun == 0 and self.resources:
            self._rungs[self._bracket, 0] = _Rung(self.n)
        self._begun += 1
        return _Place(drawn.trial, drawn.genome, self._bracket, 0, origin=drawn.origin)

    def _cut(self) -> None:
        """Where the space is exhausted, what has begun of a bracket is all there is of it."""
        if (self._bracket, 0) in self._rungs:
            self._rungs[self._bracket, 0].size = self._begun
            self._promote(self._bracket, 0)

    def _arrive(self, place: _Place, evaluation: Evaluation) -> None:
        e = evaluation
        values = None
        if e.state is not State.FAILED and not divergence(Report(e.metrics)):
            self._warn(e.metrics, place.rung)
            # what is not known ranks last, and is no reason to let a trial go
            found = [monitor(e.metrics) for monitor in self._monitors]
            values = tuple(math.inf if math.isnan(value) else value for value in found)
        if values is None:
            self._places.pop(e.candidate.id)
            self._conclude(place.trial, e)
        else:
            place.trial.report(values[0], self.resources[place.rung])
        self._rungs[place.bracket, place.rung].came.append((e.candidate.id, values))
        self._promote(place.bracket, place.rung)

    def _warn(self, metrics: Mapping[str, float], rung: int) -> None:
        """Say once of a metric that it does not rank trials, since reports at a rung lack it."""
        for name in (name for monitor in self._monitors for name in monitor.missing(metrics)):
            if name not in self._warned:
                self._warned.add(name)
                step = self.resources[rung]
                _log.warning("%s is not known at step %d; trials without it rank last there", name, step)

    def _promote(self, bracket: int, number: int) -> None:
        """Where a rung is complete, send its best on and let the others go."""
        rung = self._rungs[bracket, number]
        if len(rung.came) < rung.size:
            return
        # a rung is decided once, when its last candidate has come: by whole rungs alone, not by the order
        del self._rungs[bracket, number]
        standing = {id: values for id, values in rung.came if values is not None}
        if self.weigh:
            standing = self._halving_scores(standing, self.resources[number])
        elif self.signals:
            standing = combined(standing, (1.0, *self.signals.values()))
        chosen = best(standing, min(len(standing), max(1, rung.size // self.eta)), self.mix)
        for id in standing:
            place = self._places.pop(id)
            if id in chosen:
                self._promoted.append((id, replace(place, rung=number + 1)))
            else:
                self._sampling.pruned(place.trial)
        if chosen and number + 1 < len(self.resources):
            self._rungs[bracket, number + 1] = _Rung(len(chosen))

    def _halving_scores(
        self, standing: dict[int, tuple[float, ...]], epoch: int
    ) -> dict[int, tuple[float, ...]]:
        if not standing:
            return {}
        val, train, bias, *signals = (np.array(column) for column in zip(*standing.values(), strict=True))
        trained, held_out = self._sizes
        if epoch == 1:
            scores = (trained * train + held_out * val) / (trained + held_out)
        else:
            (first, weight), *others = zip(signals, (self.weights or _WEIGHTS).values(), strict=True)
            labels = self.labels or held_out
            scores = halving_score(val, train, bias, first, labels, errors=weight, others=others)
        scores = np.nan_to_num(scores, nan=math.inf, posinf=math.inf)
        return {id: (float(score),) for id, score in zip(standing, scores, strict=True)}

    def _conclude(self, trial: Trial, evaluation: Evaluation) -> None:
        if evaluation.state is State.COMPLETE:
            self._sampling.complete(trial, evaluation.metrics)
        elif evaluation.state is State.FAILED:
            self._sampling.failed(trial)
        else:
            self._sampling.diverged(trial)


def _sizes(problem: Problem) -> tuple[int, int]:
    """Return the numbers of training and of search samples."""
    data = next((part.data for part in problem.evaluator.parts if part.data is not None), None)
    if data is None:
        raise InputError(
            "strategy: weigh true, and no evaluator has data; expected data with splits train and search"
        )
    return data.size("train"), data.size("search")


def rungs(minimum: int, eta: int, maximum: int) -> list[int]:
    """Return the epochs at which trials are paused: `minimum`, `eta` times that and so on, below
    `maximum`.
    """
    found = []
    while minimum < maximum:
        found.append(minimum)
        minimum *= eta
    return found


def best(values: dict[int, tuple[float, ...]], places: int, mix: float) -> set[int]:
    """Return which go on: for that share of the places the best by the last value, then the best others by
    the first.
    """
    seconds = sorted(values, key=lambda id: (values[id][-1], id))[: round(mix * places)]
    firsts = sorted(values.keys() - set(seconds), key=lambda id: (values[id][0], id))
    return {*seconds, *firsts[: places - len(seconds)]}


def combined(values: dict[int, tuple[float, ...]], weights: Sequence[float]) -> dict[int, tuple[float, ...]]:
    """Return one value each: the weighted sum of normal scores."""
    if not values:
        return {}
    scores = sum(
        weight * normal_scores(np.array(column))
        for weight, column in zip(weights, zip(*values.values(), strict=True), strict=True)
    )
    return {id: (float(score),) for id, score in zip(values, np.asarray(scores), strict=True)}
