"""Finished trials of another run that are trained on, where nothing but the number of epochs is another."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

import numpy as np

from evaluators.base import Evaluator, State
from evaluators.training.checkpoint import left_before
from search.record.identity import Identity
from search.record.ledger import Ledger
from search.warm_start.carried_results import SAME, difference
from search.warm_start.translation import translation
from spaces.base import Space


class MoreEpochs:
    """The complete trials of another run, where model, data and evaluators are the same but for more epochs,
    and where their checkpoints are. [O]

    Args:
        ledger: of the other run.
        run: its folder.
        space: of this run.
        evaluator: of this run, bound.
        identity: of this run.

    Attributes:
        epochs: before and now; None: the runs differ in something else, or nothing can go on.
        genomes: of the trials, in this run's space.
        lost: number of those whose checkpoints are gone.
    """

    def __init__(
        self, ledger: Ledger, run: str, space: Space, evaluator: Evaluator, identity: Identity
    ) -> None:
        self.genomes: list[np.ndarray] = []
        self.lost = 0
        self.epochs = _raised(ledger, evaluator, identity)
        if self.epochs is None or difference(ledger, space):
            self.epochs = None
            return
        carry, trials = translation(ledger, space), Path(run) / "state" / "trials"
        for _, evaluation in ledger.evaluations():
            if evaluation.state is not State.COMPLETE:
                continue
            genome = carry.same(evaluation.candidate.genome)
            if genome is None:
                continue
            self.genomes.append(genome)
            self.lost += not _bring(trials / f"{evaluation.candidate.id}.pt", evaluator.state, genome)

    def __str__(self) -> str:
        before, now = self.epochs or (0, 0)
        on = f"{len(self.genomes) - self.lost} finished trials are trained on, from {before} to {now} epochs"
        lost = f"; {self.lost} have no checkpoint any more and are trained from the beginning"
        return on + (lost if self.lost else "")


def _raised(ledger: Ledger, evaluator: Evaluator, identity: Identity) -> tuple[int, int] | None:
    """Return the epochs before and now, where they are all that differs and more by now."""
    changes = identity.changes(ledger.identity or {}, SAME)
    if len(changes) != 1:
        return None
    (key, (before, now)), *_ = changes.items()
    place = re.fullmatch(r"evaluators\.(\d+)\.epochs", key)
    if place is None or not evaluator.parts[int(place[1])].goes_on or before is None or now is None:
        return None
    return (int(before), int(now)) if int(now) > int(before) else None


def _bring(checkpoint: Path, state: Path | None, genome: np.ndarray) -> bool:
    """Put a checkpoint where a training of the genome finds it, unless it is there; whether it is."""
    if state is None:
        return False
    place = left_before(state, genome)
    if place.is_file():
        return True
    if not checkpoint.is_file():
        return False
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(checkpoint, place)  # it is never written to again: a new state is another file
    except OSError:
        partial = place.with_suffix(".part")
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
        shutil.copyfile(checkpoint, partial)
        partial.replace(place)
    return True
