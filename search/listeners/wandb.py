"""A run of a search as a run of Weights & Biases."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Literal

from evaluators.base import Evaluation
from search.listeners.base import Listener, RunFacts, finite, library

if TYPE_CHECKING:
    from search.result import Result


class WandB(Listener):
    """Logs to Weights & Biases: settings as the config, the metrics of every complete candidate beside its
    number ``candidate``, the front's under ``front/``, at the end the best values in the summary. A search
    that is called again goes on with the run that it had.

    It needs the library wandb; the key of your account is that of ``wandb login`` or of WANDB_API_KEY.

    Args:
        project: of Weights & Biases.
        mode: ``online``, ``offline`` (files in the run's folder, to be synchronised later) or ``disabled``;
            null: what WANDB_MODE says.

    Raises:
        InputError: the library is not installed.
    """

    def __init__(
        self,
        project: str = "secateur",
        mode: Literal["online", "offline", "disabled"] | None = None,
    ) -> None:
        library("wandb", "WandB")
        self.project, self.mode = project, mode
        self._run: Any = None

    def begin(self, run: RunFacts) -> None:
        place = None if run.directory is None else run.directory.absolute()
        self._run = library("wandb", "WandB").init(
            project=self.project,
            name=run.name,
            mode=self.mode,
            dir=place,
            id=None if place is None else hashlib.sha256(str(place).encode()).hexdigest()[:16],
            resume=None if place is None else "allow",
            config={
                **run.settings,
                "objectives": list(run.objectives),
                "constraints": list(run.constraints),
            },
        )
        self._run.define_metric("candidate")
        self._run.define_metric("*", step_metric="candidate")

    def evaluated(self, evaluation: Evaluation, joined_front: bool) -> None:
        metrics = finite(evaluation.metrics)
        front = {f"front/{name}": value for name, value in metrics.items()} if joined_front else {}
        self._run.log({"candidate": evaluation.candidate.id, **metrics, **front})

    def end(self, result: Result | None) -> None:
        if self._run is None:
            return
        if result is not None:
            self._run.summary["ended"] = result.reason
            self._run.summary["evaluations"] = result.counts["evaluations"]
            for name, value in finite(result.front[0].metrics if result.front else {}).items():
                self._run.summary[f"best/{name}"] = value
        self._run.finish(exit_code=0 if result is not None and not result.ending.unfinished else 1)
        self._run = None
