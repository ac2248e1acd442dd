"""Stop a trial of Optuna when its predicted test loss is surely not among the best, by intervals."""

from __future__ import annotations

import logging
import math
from statistics import NormalDist
from typing import TYPE_CHECKING

from optuna.pruners import BasePruner, MedianPruner
from optuna.study import StudyDirection
from optuna.trial import TrialState

from evaluators.tic.prediction import attribute
from search.pruners.rungs import Rungs

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

FALLBACK = "pruner:fallback"
"""User attribute of a trial for which, from the step that it names on, the fallback decided at least once."""

NOT_A_NUMBER = "pruner:not a number"
"""User attribute of a trial that was pruned because its value was not a number, with the step."""

_log = logging.getLogger(__name__)


class TICPruner(BasePruner):
    """Asynchronous successive halving that decides on intervals. [O]; rungs [P] Li et al. 2020

    A report is a loss with a standard error: :meth:`evaluators.tic.Prediction.report` writes the loss as
    Optuna's intermediate value and the error beside it, in the user attribute ``tic:{step}``. Of n trials
    that came as far as a rung (steps `min_resource`, times `reduction`, and so on) ``ceil(n / reduction)``
    may go on; a trial is pruned at a step when that many others, their upper bounds at the same step being
    below its own lower bound, are surely better.

    Why so:

    - The bound that counts is the worst of the incumbents, taken as the ``ceil(n / reduction)`` best *upper*
      bounds. Were they the best *values*, one lucky value with a huge error would keep all trials; an unsure
      trial is no incumbent.
    - Two 90 % intervals that do not overlap are a harder test than one of the difference at 90 %, which is
      the margin for looking again at every step.
    - A trial that could not be told apart at a rung is looked at again at every step after it, not only at
      the next rung.
    - Where few trials have come to a step, few can be surely better there, so the first ones pass. A trial
      that reported no interval at that step counts among the n, but never as surely better.

    The fallback decides where there is no interval: for studies without Secateur, and where the weights have
    moved so far (`max_movement`) that the theory does not hold. The trial's user attribute
    ``pruner:fallback`` then names the step and the reason. Failed trials are not compared with.

    A value that is not a number is pruned like a weak one: from `min_resource` on, once `startup_trials`
    others have come as far. The trial's user attribute ``pruner:not a number`` then names the step.

    Example:
        >>> import optuna
        >>> from evaluators.tic.prediction import Prediction
        >>> def train(trial):
        ...     rate = trial.suggest_float("rate", 0, 1)
        ...     for epoch in range(1, 10):
        ...         loss = (rate - 0.3) ** 2 + 1 / epoch  # of the training samples
        ...         Prediction(train_loss=loss, bias=0.1, error=0.02).report(trial, epoch)
        ...         if trial.should_prune():
        ...             raise optuna.TrialPruned
        ...     return loss
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0),
        ...     pruner=TICPruner(min_resource=2))
        >>> study.optimize(train, n_trials=30)
        >>> sum(trial.state.name == "PRUNED" for trial in study.trials) > 10
        True

    Args:
        fallback: decides where there is no interval; None for Optuna's median rule on the same values, with
            the same start.
        reduction: one in so many goes on at a rung.
        confidence: of the two-sided normal interval of a value; 0 compares the values alone.
        min_resource: nothing is pruned at a smaller step, by the fallback neither.
        startup_trials: nothing is decided by intervals, nor pruned for not being a number, before so many
            others have come as far as `min_resource`.
        max_movement: largest relative movement of the weights at which the intervals are believed; None:
            always. Where it is given, a report without a gauge is not believed either.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        *,
        fallback: BasePruner | None = None,
        reduction: float = 3,
        confidence: float = 0.9,
        min_resource: int = 1,
        startup_trials: int = 5,
        max_movement: float | None = None,
    ) -> None:
        if fallback is not None and not isinstance(fallback, BasePruner):
            raise ValueError(f"fallback must be a pruner of Optuna or None, but got {fallback!r}.")
        if not 0.0 <= confidence < 1.0:
            raise ValueError(f"confidence must be at least 0 and below 1, but got {confidence}.")
        if startup_trials < 0:
            raise ValueError(f"startup_trials cannot be negative, but got {startup_trials}.")
        if max_movement is not None and not max_movement >= 0:
            raise ValueError(f"max_movement must be a number from 0 or None, but got {max_movement}.")
        self._min_resource, self._reduction, self._confidence = min_resource, reduction, confidence
        self._rungs = Rungs(min_resource, reduction)
        self._fallback = fallback or MedianPruner(
            n_startup_trials=startup_trials, n_warmup_steps=min_resource
        )
        self._width = NormalDist().inv_cdf((1 + confidence) / 2)
        self._startup_trials = startup_trials
        self._max_movement = max_movement

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Judge the trial by its last report."""
        step = trial.last_step
        if step is None or step < self._rungs.first:
            return False
        if math.isnan(trial.intermediate_values[step]):
            return self._not_a_number(study, trial, step)
        doubt = self._doubt(trial, step)
        if doubt:
            if self._tell(study, trial, FALLBACK, f"step {step}: {doubt}"):
                _log.info("trial %d, step %d: %s: the fallback decides", trial.number, step, doubt)
            return bool(self._fallback.prune(study, trial))
        return self._surely_beaten(study, trial, step)

    def _surely_beaten(self, study: Study, trial: FrozenTrial, step: int) -> bool:
        others = _others(study, trial)
        if sum(last >= self._rungs.first for _, last in others) < self._startup_trials:
            return False
        # the worst that another may be against the best that this one may be, at the same step
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        lower, _ = self._bounds(trial, step, sign)
        better = sum(
            self._bounds(other, step, sign)[1] < lower
            for other, _ in others
            if step in other.intermediate_values and not self._doubt(other, step)
        )
        # trials that were stopped within the rung count among those that came to it (see Rungs)
        start = self._rungs.start(step)
        return better >= self._rungs.places(1 + sum(last >= start for _, last in others))

    def _bounds(self, trial: FrozenTrial, step: int, sign: float) -> tuple[float, float]:
        """Lower and upper bound of a loss; of ``-value`` where more is better."""
        loss = sign * trial.intermediate_values[step]
        margin = self._width * trial.user_attrs[attribute(step)]["error"]
        return loss - margin, loss + margin

    def _doubt(self, trial: FrozenTrial, step: int) -> str:
        """Return why the interval of a report is not believed, or nothing."""
        told = trial.user_attrs.get(attribute(step))
        error = told.get("error") if isinstance(told, dict) else None
        if not isinstance(error, int | float) or not 0 <= error < math.inf:
            return "no standard error was reported"
        if self._max_movement is None:
            return ""
        movement = told.get("movement") if isinstance(told, dict) else None
        if not isinstance(movement, int | float):
            return f"no movement was reported, and max_movement is {self._max_movement:g}"
        return (
            "" if movement <= self._max_movement else f"movement {movement:.3g} above {self._max_movement:g}"
        )

    def _not_a_number(self, study: Study, trial: FrozenTrial, step: int) -> bool:
        """Prune a trial whose value is not a number, once enough others have come, and say so."""
        if sum(last >= self._rungs.first for _, last in _others(study, trial)) < self._startup_trials:
            return False
        if self._tell(study, trial, NOT_A_NUMBER, f"step {step}"):
            _log.warning("trial %d is pruned: its value at step %d is not a number", trial.number, step)
        return True

    @staticmethod
    def _tell(study: Study, trial: FrozenTrial, key: str, reason: str) -> bool:
        """Write an attribute of a running trial that has none of this key yet; whether it was written."""
        # As Optuna's own SuccessiveHalvingPruner does: a pruner is given no other way to write to a running
        # trial.
        storage, number = study._storage, trial._trial_id
        if trial.state != TrialState.RUNNING or key in storage.get_trial(number).user_attrs:
            return False
        storage.set_trial_user_attr(number, key, reason)
        return True


def _others(study: Study, trial: FrozenTrial) -> list[tuple[FrozenTrial, int]]:
    """Every other trial that has reported and has not failed, with its last step."""
    return [
        (other, last)
        for other in study.get_trials(deepcopy=False)
        if other.number != trial.number
        and other.state != TrialState.FAIL
        and (last := other.last_step) is not None
    ]
