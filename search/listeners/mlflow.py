"""A run of a search as a run of MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators.base import Evaluation
from search.listeners.base import Listener, RunFacts, finite, library
from spaces.files import write_bytes

if TYPE_CHECKING:
    from search.result import Result

_LONGEST, _MOST = 500, 100  # what MLflow takes of a parameter, and of parameters at once
_ID = "mlflow-run"


class MLflow(Listener):
    """Logs to MLflow: settings as parameters, the metrics of every complete candidate at its number as the
    step, the front's under ``front/``, and the report. A search that is called again goes on with the run
    that it had.

    It needs the library mlflow (or mlflow-skinny). Passwords belong into MLflow's own variables of the
    environment, not into `tracking_uri`, which the run's config keeps.

    Args:
        experiment: of MLflow; made where it is missing.
        tracking_uri: of MLflow's server or folder; null: what MLFLOW_TRACKING_URI says.

    Raises:
        InputError: the library is not installed.
    """

    def __init__(self, experiment: str = "secateur", tracking_uri: str | None = None) -> None:
        library("mlflow", "MLflow")
        self.experiment, self.tracking_uri = experiment, tracking_uri
        self._client: Any = None
        self._run = ""

    def begin(self, run: RunFacts) -> None:
        self._client = library("mlflow", "MLflow").MlflowClient(self.tracking_uri)
        kept = None if run.directory is None else run.directory / "state" / _ID
        if kept is not None and kept.is_file():
            self._run = kept.read_text().strip()
            self._client.update_run(self._run, status="RUNNING")
            return
        self._run = self._client.create_run(self._experiment(), run_name=run.name).info.run_id
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(kept, self._run.encode())
        self._log_parameters(run)

    def evaluated(self, evaluation: Evaluation, joined_front: bool) -> None:
        id, metrics = evaluation.candidate.id, finite(evaluation.metrics)
        told = metrics | ({f"front/{name}": value for name, value in metrics.items()} if joined_front else {})
        for name, value in told.items():
            self._client.log_metric(self._run, _plain(name), value, step=id)

    def end(self, result: Result | None) -> None:
        if not self._run:
            return
        if result is not None:
            self._client.set_tag(self._run, "ended", result.reason)
            report = None if result.directory is None else Path(result.directory) / "report.html"
            if report is not None and report.is_file():
                self._client.log_artifact(self._run, str(report))
        whole = result is not None and not result.ending.unfinished
        self._client.set_terminated(self._run, "FINISHED" if whole else "KILLED")
        self._run = ""

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self.experiment)
        return found.experiment_id if found is not None else self._client.create_experiment(self.experiment)

    def _log_parameters(self, run: RunFacts) -> None:
        parameter = library("mlflow.entities", "MLflow", "mlflow").Param
        goals = {"objectives": ", ".join(run.objectives), "constraints": ", ".join(run.constraints)}
        settings = {**run.settings, **goals}
        told = [parameter(_plain(name), text[:_LONGEST]) for name, text in settings.items() if text]
        for start in range(0, len(told), _MOST):
            self._client.log_batch(self._run, params=told[start : start + _MOST])


def _plain(name: str) -> str:
    """Return a name that MLflow takes."""
    return "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in name)
