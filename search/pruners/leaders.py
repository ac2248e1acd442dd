"""Stop a trial of Optuna that is further behind than those that came to be the best ever were."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import TrialState

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial


class LeadersPruner(BasePruner):
    """Holds a trial against what the best complete trials, the leaders, had reported at the same step. [O]

    A trial is pruned where its value is worse than that of every leader was at that step, by more than
    `slack` standard deviations of what all complete trials reported there. Why so:

    - Curves cross. The median rule, and halving, ask whether a trial is good *now*; where the trials that end
      best begin badly they stop those first. A leader that began badly keeps that step open for others like
      it, and where all leaders were ahead from the start others are stopped from the start.
    - Leaders are few, so the worst of them at a step is a rough bound; the slack covers that.
    - How much a step says about the end is thus learned from the trials themselves, with no model of curves.

    Only complete trials are learned from: nothing is pruned before `startup_trials` of them, so trials that
    all run at once are not pruned. A value that is not a number is pruned like a weak one, from
    `min_resource` on, once there are so many.

    Example:
        >>> import optuna
        >>> def objective(trial):
        ...     end, late = trial.suggest_float("end", 0, 1), trial.suggest_float("late", 0, 1)
        ...     for step in range(1, 10):
        ...         trial.report(end + late / step, step)
        ...         if trial.should_prune():
        ...             raise optuna.TrialPruned
        ...     return end + late / 9
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), pruner=LeadersPruner())
        >>> study.optimize(objective, n_trials=40)
        >>> 5 < sum(trial.state.name == "PRUNED" for trial in study.trials) < 35
        True

    Args:
        leaders: how many of the best complete trials a trial is held against, at least 1.
        slack: standard deviations of the complete trials at a step that a trial may be behind all leaders.
        startup_trials: nothing is pruned before so many trials are complete, at least 1.
        min_resource: nothing is pruned at a smaller step.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self, *, leaders: int = 3, slack: float = 1.0, startup_trials: int = 5, min_resource: int = 1
    ) -> None:
        if leaders < 1:
            raise ValueError(f"leaders must be at least 1, but got {leaders}.")
        if not 0 <= slack < math.inf:
            raise ValueError(f"slack must be a number from 0, but got {slack}.")
        if startup_trials < 1:
            raise ValueError(f"startup_trials must be at least 1, but got {startup_trials}.")
        if min_resource < 1:
            raise ValueError(f"min_resource must be at least 1, but got {min_resource}.")
        self._leaders, self._slack = leaders, slack
        self._startup_trials, self._min_resource = startup_trials, min_resource

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Judge the trial by its last report."""
        step = trial.last_step
        if step is None or step < self._min_resource:
            return False
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(complete) < self._startup_trials:
            return False
        value = trial.intermediate_values[step]
        if math.isnan(value):
            return True
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        ends = np.array([sign * other.values[0] for other in complete])
        there = sign * np.array([other.intermediate_values.get(step, math.nan) for other in complete])
        return sign * value > self._bound(ends, there)

    def _bound(self, ends: np.ndarray, there: np.ndarray) -> float:
        """Return what a trial may report at most at a step, everything to be minimised.

        Args:
            ends: final values of the complete trials, ``(trials,)``.
            there: what they reported at the step, likewise; not finite where they did not.
        """
        known = np.isfinite(there)
        if known.sum() < self._startup_trials:
            return math.inf
        ends, there = ends[known], there[known]
        leaders = there[np.argsort(ends, kind="stable")[: self._leaders]]
        return float(leaders.max() + self._slack * there.std())
