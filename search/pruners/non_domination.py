"""Stop a trial of a study with several objectives: Optuna has no pruner for these (optuna#3450)."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import moocore
import numpy as np
from optuna.study import StudyDirection
from optuna.trial import TrialState

from search.pruners.rungs import Rungs, places

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

_PREFIX = "objectives:"
_KEY = re.compile(rf"{_PREFIX}\d+")
_log = logging.getLogger(__name__)


def to_stop(values: np.ndarray, others: np.ndarray, reduction: float = 3, reached: int | None = None) -> bool:
    """Say whether a point is so far behind in the fronts that it is not among the best
    ``ceil(n / reduction)``.

    Points that are on the same front are equals: crowding would stop a non-dominated trial only because it
    lies near another one. So a non-dominated point is never stopped. [O]; fronts [P] Deb et al. 2002, by
    moocore.

    Args:
        values: of the point, ``(objectives,)``, all to be minimised.
        others: of those it is compared with, ``(points, objectives)``; what is not a number counts as worst.
        reduction: larger than 1.
        reached: n; by default the point and the others.

    Returns:
        Whether at least ``ceil(n / reduction)`` others are on fronts before its own. Where one of its values
        is not a number that is not known, and it is not stopped.
    """
    values, others = np.asarray(values, dtype=np.float64), np.asarray(others, dtype=np.float64)
    if np.isnan(values).any() or not others.size:
        return False
    fronts = moocore.pareto_rank(np.vstack([values[None], np.where(np.isnan(others), np.inf, others)]))
    before = int((fronts[1:] < fronts[0]).sum())
    return before >= places(len(fronts) if reached is None else reached, reduction)


class NonDominationPruner:
    """Asynchronous successive halving by fronts, for studies with several objectives. [O]

    Optuna's ``trial.report`` and ``trial.should_prune`` refuse such studies, so this is no ``BasePruner``: it
    keeps the reports as user attributes ``objectives:{step}`` of the trial, in the study's own directions. At
    each step from `min_resource` on a trial is compared with what the others reported at the same step; rungs
    as in :class:`search.pruners.TICPruner`. Failed trials are not compared with.

    A trial of which one value is not a number is not pruned: whether it is dominated is not known. The first
    such report is told of by a warning of this module's logger, with the objective's name.

    Example:
        >>> import optuna
        >>> pruner = NonDominationPruner(startup_trials=3)
        >>> def objective(trial):
        ...     x, slack = trial.suggest_float("x", 0, 1), trial.suggest_float("slack", 0, 1)
        ...     for step in range(1, 10):
        ...         error, accuracy = x + slack + 1 / step, x - slack - 1 / step
        ...         pruner.report(trial, (error, accuracy), step)
        ...         if pruner.should_prune(trial):
        ...             raise optuna.TrialPruned
        ...     return error, accuracy
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> study = optuna.create_study(directions=["minimize", "maximize"],
        ...     sampler=optuna.samplers.RandomSampler(seed=0))
        >>> study.optimize(objective, n_trials=30)
        >>> 3 < sum(trial.state.name == "PRUNED" for trial in study.trials) < 25
        True

    Args:
        reduction: one in so many goes on at a rung.
        min_resource: nothing is pruned at a smaller step.
        startup_trials: nothing is pruned before so many others have come as far as `min_resource`.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, *, reduction: float = 3, min_resource: int = 1, startup_trials: int = 5) -> None:
        if startup_trials < 0:
            raise ValueError(f"startup_trials cannot be negative, but got {startup_trials}.")
        self._min_resource, self._reduction = min_resource, reduction
        self._rungs = Rungs(min_resource, reduction)
        self._startup_trials = startup_trials
        self._warned = False

    def report(self, trial: Trial, values: Sequence[float], step: int) -> None:
        """Keep the values of a trial at a step, one for each of the study's objectives.

        Raises:
            ValueError: the number of values is not the number of objectives, or the step is negative.
        """
        objectives = len(trial.study.directions)
        if len(values) != objectives:
            raise ValueError(
                f"{len(values)} values were reported at step {step}, but the study has {objectives} "
                f"objectives."
            )
        if step < 0:
            raise ValueError(f"step must not be negative, but got {step}.")
        trial.set_user_attr(f"{_PREFIX}{step}", [float(value) for value in values])

    def should_prune(self, trial: Trial) -> bool:
        """Judge a running trial by its last report."""
        return self.judge(trial.study, trial)

    def judge(self, study: Study, trial: Trial | FrozenTrial) -> bool:
        """Judge a trial of a study by its last report."""
        own = _reports(trial.user_attrs)
        if not own:
            return False
        step = max(own)
        if np.isnan(own[step]).any():
            self._warn(study, trial, own[step], step)
            return False
        if step < self._rungs.first:
            return False
        others = _of_others(study, trial)
        lasts = [max(reports) for reports in others]
        if sum(last >= self._rungs.first for last in lasts) < self._startup_trials:
            return False
        signs = np.array(
            [-1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in study.directions]
        )
        rivals = np.array([reports[step] for reports in others if step in reports]).reshape(-1, len(signs))
        # of those that have begun the rung one in `reduction` goes on, however many have come as far as here
        start = self._rungs.start(step)
        return to_stop(
            signs * own[step], signs * rivals, self._rungs.reduction, 1 + sum(last >= start for last in lasts)
        )

    def _warn(self, study: Study, trial: Trial | FrozenTrial, values: Sequence[float], step: int) -> None:
        """Say once which objective is not a number, so that nobody wonders why nothing is pruned."""
        if self._warned:
            return
        self._warned = True
        names = study.metric_names or [f"objective {place}" for place in range(len(values))]
        unknown = ", ".join(name for name, value in zip(names, values, strict=True) if np.isnan(value))
        _log.warning(
            "trial %d, step %d: %s is not a number; NonDominationPruner stops no such trial",
            trial.number,
            step,
            unknown,
        )


def _of_others(study: Study, trial: Trial | FrozenTrial) -> list[dict[int, list[float]]]:
    """The reports of every other trial that has some and has not failed."""
    return [
        reports
        for other in study.get_trials(deepcopy=False)
        if other.number != trial.number
        and other.state != TrialState.FAIL
        and (reports := _reports(other.user_attrs))
    ]


def _reports(attributes: Mapping[str, Any]) -> dict[int, list[float]]:
    """What a trial has reported, by step."""
    return {int(key[len(_PREFIX) :]): values for key, values in attributes.items() if _KEY.fullmatch(key)}
