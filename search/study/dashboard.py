"""optuna-dashboard over a run: what is beyond a limit is not among the best, and the files of the run are its
artifacts.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.study.files import RunFiles


def main() -> None:
    """Start it: the first word of the command line is the run's folder, all others are optuna-dashboard's."""
    from optuna_dashboard import _cli

    directory = Path(sys.argv.pop(1))
    with contextlib.suppress(ImportError):
        prepare(directory)
    with contextlib.suppress(KeyboardInterrupt):  # it says itself that this is how it is ended
        _cli.main()


def prepare(directory: Path) -> None:
    """Let optuna-dashboard 0.21 look at feasibility, which it does not by itself, and offer a run's files.

    Args:
        directory: of the run.
    """
    from optuna_dashboard import _app, _cli

    # what it does not have under these names any more it does in its own way
    if hasattr(_app, "get_pareto_front_trials"):
        of_all = _app.get_pareto_front_trials

        def of_feasible(trials: Sequence[Any], directions: Sequence[Any]) -> list[Any]:
            return of_all(trials=[trial for trial in trials if is_feasible(trial)], directions=directions)

        _app.get_pareto_front_trials = of_feasible
    if hasattr(_cli, "get_storage"):
        opened = _cli.get_storage

        def opened_feasible(*words: Any, **more: Any) -> BaseStorage:
            storage: Any = opened(*words, **more)
            storage.get_best_trial = lambda study_id: _best(storage, study_id)
            return cast(BaseStorage, storage)

        _cli.get_storage = opened_feasible
    if hasattr(_cli, "create_artifact_store_from_config"):
        _cli.create_artifact_store_from_config = lambda config: RunFiles(directory)


def _best(storage: BaseStorage, study_id: int) -> FrozenTrial:
    """Return the best trial of one objective: within the limits, where there is one."""
    complete = storage.get_all_trials(study_id, deepcopy=False, states=(TrialState.COMPLETE,))
    shown = [trial for trial in complete if is_feasible(trial)] or complete
    if not shown:
        raise ValueError("No trials are completed yet.")
    sign = -1 if storage.get_study_directions(study_id)[0] is StudyDirection.MAXIMIZE else 1
    return min(shown, key=lambda trial: sign * (trial.value or 0.0))


def is_feasible(trial: Any) -> bool:
    """Whether a trial came to its end within the limits."""
    return bool(trial.user_attrs.get("feasible") != "no")
