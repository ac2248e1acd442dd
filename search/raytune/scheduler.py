"""An Optuna study in charge of `ray.tune`: its sampler proposes, its pruner stops, TIC included.

Tune's own OptunaSearch hard-codes a pruner that never prunes. Here the searcher owns the study's trials, and
the scheduler asks it.
"""

from __future__ import annotations

from typing import Any

from optuna import Study
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import FIFOScheduler

from search.pruners import NonDominationPruner
from search.raytune.searcher import StudySearch
from spaces.errors import InputError


class StudyScheduler(FIFOScheduler):
    """Stops a trial of a `tune.Tuner` when the pruner of the study says so. [O]

    Every pruner of Optuna works. A result that holds ``tic_error`` (and ``tic_bias``, ``movement``) becomes
    the interval that :class:`search.pruners.TICPruner` decides on: ``tune.report(prediction.metrics())``. It
    goes with a :class:`StudySearch` on the same study.

    Example:
        >>> import optuna
        >>> study = optuna.create_study(pruner=optuna.pruners.HyperbandPruner())
        >>> scheduler = StudyScheduler(study)
        >>> study = optuna.create_study(directions=["minimize", "minimize"])
        >>> scheduler = StudyScheduler(study, NonDominationPruner(min_resource=3))

    Args:
        study: the one that StudySearch has.
        pruner: for a study of several objectives, which Optuna's own pruners refuse; None stops none of them.

    Raises:
        InputError: a pruner for several objectives with a study of one.
    """

    def __init__(self, study: Study, pruner: NonDominationPruner | None = None) -> None:
        super().__init__()
        if pruner is not None and len(study.directions) == 1:
            raise InputError(
                "StudyScheduler.pruner: the study has one objective; expected its pruner in "
                "create_study(pruner=...)"
            )
        self.study = study
        self._pruner = pruner
        self._mode: str | None = None

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Remember what the TuneConfig says, for the searcher, which Tune does not tell where there is no
        `param_space`.
        """
        self._metric, self._mode = metric, mode
        return True

    def on_trial_add(self, tune_controller: Any, trial: RayTrial) -> None:
        """Join Ray's trial with the study's."""
        search = self._search(tune_controller)
        search.agree(self._metric, self._mode)
        search.watch(trial)

    def on_trial_result(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> str:
        """Report to the study, and stop the trial where its pruner says so."""
        stop = self._search(tune_controller).judge(trial.trial_id, result, self._pruner)
        return str(self.STOP if stop else self.CONTINUE)

    def debug_string(self) -> str:
        """Say which pruner decides."""
        return f"Using the study's {type(self._pruner or self.study.pruner).__name__}."

    def _search(self, tune_controller: Any) -> StudySearch:
        found = tune_controller.search_alg
        while found is not None and not isinstance(found, StudySearch):
            found = getattr(
                found, "searcher", None
            )  # Tune wraps searchers, in a limit of concurrent trials for one
        if found is None or found.study.study_name != self.study.study_name:
            raise InputError(
                "StudyScheduler: the searcher is another one; expected search_alg=StudySearch(study) with "
                "the same study"
            )
        return found
