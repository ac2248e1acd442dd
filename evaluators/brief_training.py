"""A number of gradient steps on the weights that a model has: the training of a candidate that inherits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from evaluators.data.base import Data
from evaluators.data.preloaded import to_device
from evaluators.distillation import Distillation
from evaluators.optimisation import (
    OptimiserName,
    ScheduleName,
    make_optimiser,
    make_schedule,
    needs_two_samples,
    train_mode,
)
from evaluators.teaching import Teacher
from evaluators.training import Training
from operators.forward import device_of, forward
from spaces.channels.trace import mode
from spaces.errors import InputError

_WEIGHT = "distillation_weight"
TUNABLE = ("optimiser", "learning_rate", "weight_decay", "batch_size", "schedule", "clip", _WEIGHT)
"""Settings that a genome may hold."""

_ENDLESS = 2**31


@dataclass(frozen=True)
class BriefTraining:
    """The settings of :class:`evaluators.Training`, for steps in place of epochs; the optimiser begins anew
    and the last weights stay.

    Raises:
        InputError: a setting out of its range, named.
    """

    batch_size: int = 64
    learning_rate: float = 2e-3
    optimiser: OptimiserName = "adamw"
    weight_decay: float = 0.01
    schedule: ScheduleName = "one-cycle"
    clip: float | None = None
    distillation: Distillation | None = None

    def __post_init__(self) -> None:
        # says what is wrong
        Training(
            1,
            self.optimiser,
            self.learning_rate,
            self.weight_decay,
            self.batch_size,
            self.schedule,
            self.clip,
        )

    def changed(self, settings: Mapping[str, Any]) -> BriefTraining:
        """Return it with some settings replaced: those of :data:`TUNABLE`; others are left out."""
        taken = {name: value for name, value in settings.items() if name in TUNABLE and name != _WEIGHT}
        if _WEIGHT in settings and self.distillation is not None:
            taken["distillation"] = Distillation(self.distillation.temperature, settings[_WEIGHT])
        return replace(self, **taken)

    def __call__(
        self, model: nn.Module, data: Data, seed: int, steps: int, teacher: Teacher | None = None
    ) -> tuple[float, int]:
        """Take so many steps in place and return the mean loss and how many samples passed; no random number
        outside is drawn.
        """
        if not steps:
            return 0.0, 0
        device = device_of(model)
        optimiser = make_optimiser(self.optimiser, model, self.learning_rate, self.weight_decay)
        schedule = make_schedule(self.schedule, optimiser, self.learning_rate, steps)
        total, samples = torch.zeros((), dtype=torch.float64, device=device), 0
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), mode(model, True):
            torch.manual_seed(seed)
            train_mode(model)
            batches = self._batches(
                data, torch.Generator().manual_seed(seed), 2 if needs_two_samples(model) else 1, teacher
            )
            for step, (batch, taught, labelled) in zip(range(1, steps + 1), batches, strict=False):
                inputs, targets = to_device(batch, device)
                outputs = forward(model, inputs)
                losses = data.loss(outputs, targets)
                if taught is not None and self.distillation is not None:
                    losses = self.distillation(losses, outputs, taught, targets, labelled)
                loss = losses.mean()
                optimiser.zero_grad()
                loss.backward()
                if self.clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), self.clip)
                optimiser.step()
                if schedule is not None and step < steps:  # the last step has no successor
                    schedule.step()
                total += loss.detach()
                samples += len(targets)
        return total.item() / steps, samples

    def _batches(
        self, data: Data, order: torch.Generator, least: int, teacher: Teacher | None
    ) -> Iterator[tuple[Any, Tensor | None, Tensor | None]]:
        """Yield batches of the training split, epoch after epoch, what the teacher says of them, None without
        one, and which are labelled.

        Those of less than `least` samples have no statistics; the rest of an epoch that fills no batch would
        be a noisy step, and is left out.
        """
        if min(data.size("train"), self.batch_size) < least:
            raise InputError(
                f"evaluator LineageTraining: batches of one sample; expected at least {least}, for BatchNorm"
            )
        for _ in range(_ENDLESS):
            plain = (
                ((batch, None, None) for batch in data.batches("train", self.batch_size, order))
                if teacher is None
                else None
            )
            full = least
            for batch, taught, labelled in plain or teacher.batches(self.batch_size, order):  # type: ignore[union-attr]
                if len(batch[1]) >= full:
                    full = len(batch[1])
                    yield batch, taught, labelled
