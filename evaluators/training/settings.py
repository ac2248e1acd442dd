"""Settings of a training by gradient steps, which every training owns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from evaluators.data.base import SPLITS, Split
from evaluators.training.distillation import Distillation
from evaluators.training.optimisation import OPTIMISERS, SCHEDULES, OptimiserName, ScheduleName
from spaces.errors import require

DISTILLATION_WEIGHT = "distillation_weight"
"""The gene that stands over the weight of a distillation."""
LATER = ("precision", "accumulation", "checkpointing")
"""Settings that came later."""
Precision = Literal["bf16"]
STEP_GENES = ("optimiser", "learning_rate", "weight_decay", "batch_size", "schedule", "clip")
EPOCH_GENES = ("keep_best", "patience")
"""Settings that a genome may hold: of every gradient step, and of a training by epochs."""


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained; :class:`evaluators.Training` says what each of them means.

    A training that counts steps leaves `epochs`, `monitor`, `keep_best` and `patience` aside.

    Raises:
        InputError: a setting out of its range, named.
    """

    epochs: int = 30
    optimiser: OptimiserName = "adamw"
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    batch_size: int = 64
    schedule: ScheduleName = "one-cycle"
    clip: float | None = None
    monitor: Split = "search"
    keep_best: bool = True
    patience: int | None = None
    distillation: Distillation | None = None
    # a run that uses none of these is what it was before there were any
    precision: Precision | None = field(default=None, repr=False)
    accumulation: int | None = field(default=None, repr=False)
    checkpointing: tuple[str, ...] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        require(
            "training",
            (self.epochs >= 1, f"epochs {self.epochs}; expected at least 1"),
            (self.batch_size >= 1, f"batch_size {self.batch_size}; expected at least 1"),
            (self.learning_rate > 0, f"learning_rate {self.learning_rate}; expected a number above 0"),
            (self.weight_decay >= 0, f"weight_decay {self.weight_decay}; expected a number of at least 0"),
            (
                self.optimiser in OPTIMISERS,
                f"optimiser {self.optimiser!r}; expected {' or '.join(OPTIMISERS)}",
            ),
            (self.schedule in SCHEDULES, f"schedule {self.schedule!r}; expected {' or '.join(SCHEDULES)}"),
            (self.clip is None or self.clip > 0, f"clip {self.clip}; expected a number above 0 or null"),
            (
                self.patience is None or self.patience >= 1,
                f"patience {self.patience}; expected at least 1 or null",
            ),
            (
                self.monitor in SPLITS and self.monitor != "test",
                f"monitor {self.monitor!r}; expected train, calibration or search",
            ),
            (
                self.precision in (None, "bf16"),
                f"precision {self.precision!r}; expected bf16 or null",
            ),
            (
                self.accumulation is None or 1 <= self.accumulation <= self.batch_size,
                f"accumulation {self.accumulation}; expected 1 to the batch_size {self.batch_size}, or null",
            ),
        )

    def told(self) -> dict[str, Any]:
        """Return the settings by name, those of :data:`LATER` only where they are used: what is known of a
        training of before there were any stays so.
        """
        return {name: value for name, value in vars(self).items() if name not in LATER or value is not None}

    def changed(self, genes: Mapping[str, Any]) -> TrainingSettings:
        """Return them with those replaced that a genome holds (:data:`STEP_GENES`, :data:`EPOCH_GENES`, and
        :data:`DISTILLATION_WEIGHT` where there is a distillation); other genes are left aside.
        """
        taken = {name: genes[name] for name in (*STEP_GENES, *EPOCH_GENES) if name in genes}
        if DISTILLATION_WEIGHT in genes and self.distillation is not None:
            weight = genes[DISTILLATION_WEIGHT]
            taken["distillation"] = Distillation(self.distillation.temperature, weight)
        return replace(self, **taken)


class OwnsSettings:
    """Reads what a training owns, its :class:`TrainingSettings`, by the names of its constructor's arguments.

    Attributes:
        settings: that it was constructed with.
    """

    settings: TrainingSettings

    @property
    def optimiser(self) -> OptimiserName:
        return self.settings.optimiser

    @property
    def learning_rate(self) -> float:
        return self.settings.learning_rate

    @property
    def weight_decay(self) -> float:
        return self.settings.weight_decay

    @property
    def batch_size(self) -> int:
        return self.settings.batch_size

    @property
    def schedule(self) -> ScheduleName:
        return self.settings.schedule

    @property
    def clip(self) -> float | None:
        return self.settings.clip

    @property
    def monitor(self) -> Split:
        return self.settings.monitor

    @property
    def keep_best(self) -> bool:
        return self.settings.keep_best

    @property
    def patience(self) -> int | None:
        return self.settings.patience

    @property
    def distillation(self) -> Distillation | None:
        return self.settings.distillation

    @property
    def precision(self) -> Precision | None:
        return self.settings.precision

    @property
    def accumulation(self) -> int | None:
        return self.settings.accumulation

    @property
    def checkpointing(self) -> tuple[str, ...] | None:
        return self.settings.checkpointing
