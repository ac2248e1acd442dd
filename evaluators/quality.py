"""Quality: how well a candidate does before any training, after the repair that every candidate gets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import torch
from torch import nn

from evaluators.assessment import assess, assessed
from evaluators.base import Candidate, Evaluator, Report
from evaluators.data.base import Data, Split
from evaluators.data.preloaded import Preloaded
from evaluators.racing import ERROR, SEEN, Raced, race
from operators.criteria.activations import record
from operators.repair.batchnorm import recalibrate
from spaces.base import Sliced, Space
from spaces.calling import device_of
from spaces.errors import InputError, require

_LOUDEST = float(np.finfo(np.float16).max)


class Quality(Evaluator):
    """``loss`` and the data's metrics on the search split, after BatchNorm recalibration on the calibration
    split.

    The splits' batches are read once a process and kept (up to `cache_mib`), so that a small model takes
    milliseconds. The model comes back in its modes, with recalibrated statistics.

    Where the space has a slice plan the report carries ``activation``: the mean absolute activation of every
    locus on the search split (no label is looked at), float16 of shape ``(length,)``, NaN where it was not
    kept.

    With `race` candidates are scored on growing parts of the search split, in an order drawn for each, and
    stopped as soon as they are beaten: by a member of the front that is no worse in every objective
    which is known without evaluation, and better in the one that is measured, with confidence. What comes
    onto the front has seen all samples. ``samples_seen`` is reported, and activations are those of the
    samples seen.
    The split is held in memory as a whole. [O], of published parts:
    :class:`~evaluators.racing.PairedRace`.

    Args:
        batch_size: of recalibration and scoring.
        recalibration: the split whose inputs give the statistics, ``calibration`` or ``train``; None leaves
            them as they are.
        recalibration_batches: at most so many batches; None for all of the split.
        record_activations: whether reports carry ``activation``.
        cache_mib: largest amount of batches kept in memory, MiB a process.
        race: whether candidates that are beaten are stopped; None: they are not.
        race_error: chance at most that a candidate is stopped which all samples would have brought onto the
            front, 0 to 1; None: .05.
        race_margin: by which share of the figure of a member of the front (what is maximised: of what lacks
            to 1) a candidate has to be better to count as better, 0 to 1: a front with fewer members that
            hardly differ, for fewer samples (epsilon-dominance: Laumanns et al. 2002 [P]); None: 0.

    Raises:
        InputError: a setting out of its range, named.
    """

    measures = True
    later_arguments = ("race", "race_error", "race_margin")

    def __init__(
        self,
        batch_size: int = 256,
        recalibration: Split | None = "calibration",
        recalibration_batches: int | None = None,
        record_activations: bool = True,
        cache_mib: float = 512,
        race: bool | None = None,
        race_error: float | None = None,
        race_margin: float | None = None,
    ) -> None:
        require(
            "evaluator Quality",
            (batch_size >= 2, f"batch_size {batch_size}; expected at least 2"),
            (
                recalibration in (None, "calibration", "train"),
                f"recalibration {recalibration!r}; expected calibration, train or null",
            ),
            (
                recalibration_batches is None or recalibration_batches >= 1,
                f"recalibration_batches {recalibration_batches}; expected at least 1 or null",
            ),
            (
                race_error is None or 0 < race_error < 1,
                f"race_error {race_error}; expected more than 0 and less than 1, or null for {ERROR}",
            ),
            (
                race_margin is None or 0 <= race_margin < 1,
                f"race_margin {race_margin}; expected at least 0 and less than 1, or null for 0",
            ),
            (
                race or (race_error is None and race_margin is None),
                "race_error or race_margin without a race; expected race true beside it, or null",
            ),
        )
        self.batch_size, self.recalibration = batch_size, recalibration
        self.recalibration_batches = recalibration_batches
        self.record_activations, self.cache_mib = record_activations, cache_mib
        self.race, self.race_error, self.race_margin = race, race_error, race_margin

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*assessed(self.data), SEEN) if self.race else assessed(self.data)

    @property
    def raced(self) -> tuple[str, ...]:  # type: ignore[override]
        names = () if self.data is None else self.data.metric_names
        return ("loss", *names) if self.race else ()

    def bind(self, space: Space, data: Data | None = None) -> None:
        """Raises :class:`InputError` without data."""
        super().bind(space, data)
        if data is None:
            raise InputError("evaluator Quality: no data; expected data with a search split")
        self._batches = Preloaded(data, self.cache_mib)

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        """Yield one report."""
        assert self.data is not None
        device = device_of(model)
        if self.recalibration is not None:
            recalibrate(
                model,
                self._batches.batches(
                    self.recalibration, self.batch_size, device, self.recalibration_batches
                ),
            )
        space = self.space
        recording = (
            record(model, space.plan, candidate.genome)
            if self.record_activations and isinstance(space, Sliced)
            else nullcontext()
        )
        with recording as activations:
            found = self._score(model, candidate, device)
        arrays = dict(found.arrays)
        if activations is not None:
            arrays["activation"] = np.minimum(activations.mean(), _LOUDEST).astype(np.float16)
        yield Report(found.metrics, arrays=arrays, stop=found.stop)

    def _score(self, model: nn.Module, candidate: Candidate, device: torch.device) -> Raced:
        assert self.data is not None
        if not self.race:
            batches = self._batches.batches("search", self.batch_size, device)
            return Raced(assess(model, self.data, batches))
        split = self._batches.whole("search", self.batch_size, device)
        rules = self.race_error or ERROR, self.race_margin or 0.0
        return race(model, self.data, split, candidate, self.batch_size, *rules)
