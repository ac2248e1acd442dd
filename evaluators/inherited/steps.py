"""A number of gradient steps on the weights that a model has: the training of a candidate that inherits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from evaluators.data.base import Data
from evaluators.data.preloaded import to_device
from evaluators.inherited.teaching import Teacher
from evaluators.training.accumulation import backward
from evaluators.training.checkpointing import checkpointed
from evaluators.training.optimisation import make_optimiser, make_schedule, needs_two_samples, train_mode
from evaluators.training.settings import DISTILLATION_WEIGHT, STEP_GENES, TrainingSettings
from spaces.calling import device_of, forward, gradients, mode
from spaces.errors import InputError
from spaces.structures import samples

TUNABLE = (*STEP_GENES, DISTILLATION_WEIGHT)
"""Settings that a genome may hold."""

_ENDLESS = 2**31


@dataclass(frozen=True)
class BriefTraining:
    """Trains for so many steps in place of epochs; the optimiser begins anew and the last weights stay.

    Attributes:
        settings: of the steps.
    """

    settings: TrainingSettings

    def __call__(
        self, model: nn.Module, data: Data, seed: int, steps: int, teacher: Teacher | None = None
    ) -> tuple[float, int]:
        """Take so many steps in place and return the mean loss and how many samples passed; no random number
        outside is drawn.
        """
        if not steps:
            return 0.0, 0
        given, device = self.settings, device_of(model)
        optimiser = make_optimiser(given.optimiser, model, given.learning_rate, given.weight_decay)
        schedule = make_schedule(given.schedule, optimiser, given.learning_rate, steps)

        def losses_of(inputs: Any, targets: Any, taught: Tensor | None, labelled: Tensor | None) -> Tensor:
            outputs = forward(model, inputs)
            losses = data.loss(outputs, targets)
            if taught is None or given.distillation is None:
                return losses
            return given.distillation(losses, outputs, taught, targets, labelled)

        total, seen = torch.zeros((), dtype=torch.float64, device=device), 0
        forked = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
        checkpointing = checkpointed(model, given.checkpointing or ())
        with forked, gradients(), mode(model, True), checkpointing:
            torch.manual_seed(seed)
            train_mode(model)
            batches = self._batches(
                data, torch.Generator().manual_seed(seed), 2 if needs_two_samples(model) else 1, teacher
            )
            for step, (batch, taught, labelled) in zip(range(1, steps + 1), batches, strict=False):
                inputs, targets = to_device(batch, device)
                count = samples(targets, inputs)
                optimiser.zero_grad()
                losses = backward(losses_of, (inputs, targets, taught, labelled), count, given, device)
                if given.clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), given.clip)
                optimiser.step()
                if schedule is not None and step < steps:  # the last step has no successor
                    schedule.step()
                total += losses.mean()
                seen += count
        return total.item() / steps, seen

    def _batches(
        self, data: Data, order: torch.Generator, least: int, teacher: Teacher | None
    ) -> Iterator[tuple[Any, Tensor | None, Tensor | None]]:
        """Yield batches of the training split, epoch after epoch, what the teacher says of them, None without
        one, and which are labelled.

        Those of less than `least` samples have no statistics; the rest of an epoch that fills no batch would
        be a noisy step, and is left out.
        """
        if min(data.size("train"), self.settings.batch_size) < least:
            raise InputError(
                f"evaluator InheritedTraining: batches of one sample; expected at least {least}, "
                "for BatchNorm"
            )
        for _ in range(_ENDLESS):
            plain = (
                ((batch, None, None) for batch in data.batches("train", self.settings.batch_size, order))
                if teacher is None
                else None
            )
            full = least
            for batch, taught, labelled in plain or teacher.batches(self.settings.batch_size, order):  # type: ignore[union-attr]
                if (count := samples(batch[1], batch[0])) >= full:
                    full = count
                    yield batch, taught, labelled
