"""Scalars of a run as TensorBoard reads them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators.base import Evaluation
from search.listeners.base import Listener, RunFacts, finite, library
from spaces.errors import InputError

if TYPE_CHECKING:
    from search.result import Result


class TensorBoard(Listener):
    """Writes event files: of every complete candidate its metrics under ``candidates/``, of those that join
    the front under ``front/``, at the candidate's number as the step; at the end settings and reason as
    texts.

    It needs the library tensorboardX, which comes with Ray Tune. Look at them with ``tensorboard --logdir
    runs``, where TensorBoard is installed.

    Args:
        folder: where to; null: ``tensorboard`` in the run's folder.

    Raises:
        InputError: the library is not installed; when the search begins: neither a folder nor a run's.
    """

    def __init__(self, folder: str | None = None) -> None:
        library("tensorboardX", "TensorBoard")
        self.folder = folder
        self._writer: Any = None

    def begin(self, run: RunFacts) -> None:
        if self.folder is None and run.directory is None:
            raise InputError("listeners: TensorBoard has no folder; expected one, as the search has none")
        folder = Path(self.folder) if self.folder is not None else (run.directory or Path()) / "tensorboard"
        writer = library("tensorboardX", "TensorBoard").SummaryWriter
        # files are named by the second: a call that follows at once would write over the one before
        self._writer = writer(str(folder), filename_suffix=f".{time.time_ns() % 10**9:09d}")
        lines = "\n".join(f"    {name}: {text}" for name, text in run.settings.items())
        self._writer.add_text("settings", lines, 0)

    def evaluated(self, evaluation: Evaluation, joined_front: bool) -> None:
        id = evaluation.candidate.id
        for group in ("candidates", *(["front"] if joined_front else [])):
            for name, value in finite(evaluation.metrics).items():
                self._writer.add_scalar(f"{group}/{name}", value, id)
        self._writer.add_scalar("seconds", evaluation.seconds, id)

    def end(self, result: Result | None) -> None:
        if self._writer is None:
            return
        if result is not None:
            self._writer.add_text("ended", result.reason, result.counts["evaluations"])
        self._writer.close()
        self._writer = None
