"""One training, epoch by epoch, which can be put away after any epoch and taken up by another process."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from evaluators.assessment import assess
from evaluators.base import Report
from evaluators.data.base import Data
from evaluators.data.preloaded import Preloaded, to_device
from evaluators.training.accumulation import backward
from evaluators.training.checkpointing import checkpointed
from evaluators.training.optimisation import make_optimiser, make_schedule, needs_two_samples, train_mode
from spaces.calling import device_of, forward, gradients, mode
from spaces.structures import samples

if TYPE_CHECKING:
    from evaluators.training.settings import TrainingSettings

_ASSESS_BATCH = 256


class Watch(Protocol):
    """What else is measured after every epoch. It draws no random numbers, and leaves the model as it is."""

    def __call__(self, metrics: dict[str, float]) -> dict[str, float]:
        """Return the metrics of the epoch with what it adds; ``train_loss`` may become another."""

    def state(self) -> dict[str, Tensor]:
        """Return what it remembers from one epoch to the next."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Remember what :meth:`state` gave."""


class Fitting:
    """Model, optimiser, schedule, order of samples, and the best weights so far.

    What comes after an epoch follows from :meth:`state` alone, bit by bit: torch's random numbers are part of
    it.

    Attributes:
        reports: of all epochs so far.
        ended: whether there is no epoch to come.
        diverged: whether it ended because a training loss was not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        training: TrainingSettings,
        teacher: nn.Module | None,
        watch: Watch | None = None,
    ) -> None:
        self.model, self.data, self.training, self.teacher, self.watch = model, data, training, teacher, watch
        self.device = device_of(model)
        if teacher is not None:
            teacher.to(self.device)
        self.steps = training.epochs * math.ceil(data.size("train") / training.batch_size)
        self.optimiser = make_optimiser(
            training.optimiser, model, training.learning_rate, training.weight_decay
        )
        self.schedule = make_schedule(training.schedule, self.optimiser, training.learning_rate, self.steps)
        self.done = 0
        self.order = torch.Generator().manual_seed(torch.initial_seed() % 2**63)
        self.reports: list[Report] = []
        self.ended = self.diverged = False
        self._watched = Preloaded(data)
        self._best: Report | None = None
        self._best_weights: dict[str, Tensor] = {}

    def epoch(self) -> Report:
        """Train one epoch and measure; a training loss that is not finite ends the training."""
        step = len(self.reports) + 1
        with gradients():
            trained = self._epoch()
        split = self._watched.batches(self.training.monitor, _ASSESS_BATCH, self.device)
        metrics = {"train_loss": trained} | assess(self.model, self.data, split)
        report = Report(metrics if self.watch is None else self.watch(metrics), step)
        self.reports.append(report)
        self.diverged = not math.isfinite(trained)
        if not self.diverged:
            self._compare(report)
        self.ended = self._over()
        return report

    def finish(self) -> Report | None:
        """Put the weights that are kept into the model, and return their report, a step later, where they are
        not the last ones.
        """
        if (
            self.diverged
            or self._best is None
            or not self._best_weights
            or self._best.step == len(self.reports)
        ):
            return None
        self.model.load_state_dict(self._best_weights)
        return Report(dict(self._best.metrics), len(self.reports) + 1)

    def state(self) -> dict[str, Any]:
        """Return all that another process needs, in tensors and plain values."""
        kept = self.model.state_dict()
        return {
            "reports": [(report.step, dict(report.metrics)) for report in self.reports],
            "ended": self.ended,
            "diverged": self.diverged,
            "model": kept,
            "buffers": {name: buffer for name, buffer in self.model.named_buffers() if name not in kept},
            "best": None if self._best is None else self._best.step,
            "best_weights": self._best_weights,
            "optimiser": self.optimiser.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "done": self.done,
            "order": self.order.get_state(),
            "random": torch.get_rng_state(),
            "device_random": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "watch": {} if self.watch is None else self.watch.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` gave of a training of the same model, data and settings, perhaps over
        fewer epochs; torch's random numbers, too.
        """
        self.reports = [Report(dict(metrics), step) for step, metrics in state["reports"]]
        self.diverged = state["diverged"]
        self.model.load_state_dict(state["model"])
        buffers = dict(self.model.named_buffers())
        for name, values in state["buffers"].items():
            buffers[name].detach().copy_(values)
        self._best = None if state["best"] is None else self.reports[state["best"] - 1]
        self._best_weights = state["best_weights"]
        self.ended = self._over()
        self.optimiser.load_state_dict(state["optimiser"])
        self.done = state["done"]
        if self.schedule is not None:
            self._take_schedule(self.schedule, state["schedule"])
        self.order.set_state(state["order"])
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda" and state["device_random"] is not None:
            torch.cuda.set_rng_state(state["device_random"], self.device)
        if self.watch is not None:
            self.watch.restore(state["watch"])

    def _over(self) -> bool:
        """Whether there is no epoch to come."""
        step, patience = len(self.reports), self.training.patience
        since = step - (0 if self._best is None else self._best.step)
        return step >= self.training.epochs or self.diverged or (patience is not None and since >= patience)

    def _take_schedule(self, schedule: LRScheduler, saved: dict[str, Any] | None) -> None:
        """Bring the schedule to where it was; of a training over fewer epochs, to where this one has it after
        so many steps.
        """
        if saved is not None and saved.get("total_steps") == self.steps:
            schedule.load_state_dict(saved)
        elif self.done:
            stood = {"last_epoch": self.done - 1, "_step_count": self.done + 1}
            schedule.load_state_dict(schedule.state_dict() | stood)
            schedule.step()

    def _compare(self, report: Report) -> None:
        if not report.metrics["loss"] < (math.inf if self._best is None else self._best.metrics["loss"]):
            return
        self._best = report
        if self.training.keep_best:
            self._best_weights = {
                name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()
            }

    def _epoch(self) -> float:
        """Train one epoch; return the mean training loss of its samples, each before the step that learned
        from it.
        """
        total, seen = torch.zeros((), dtype=torch.float64, device=self.device), 0
        checkpointing = checkpointed(self.model, self.training.checkpointing or ())
        with mode(self.model, True), checkpointing:
            train_mode(self.model)
            two = needs_two_samples(self.model)
            for batch in self.data.batches("train", self.training.batch_size, self.order):
                inputs, targets = to_device(batch, self.device)
                if (count := samples(targets, inputs)) == 1 and two and seen:
                    # the last batch has no statistics: nothing is learned from it, and the schedule goes on
                    self._step()
                    continue
                self.optimiser.zero_grad()
                losses = backward(self._losses, (inputs, targets), count, self.training, self.device)
                total += losses.sum(dtype=torch.float64)
                self._step(learn=True)
                seen += count
        return total.item() / seen

    def _losses(self, inputs: Any, targets: Any) -> Tensor:
        outputs = forward(self.model, inputs)
        losses = self.data.loss(outputs, targets)
        if self.teacher is None or self.training.distillation is None:
            return losses
        with mode(self.teacher, False), torch.no_grad():
            taught = forward(self.teacher, inputs)
        return self.training.distillation(losses, outputs, taught, targets)

    def _step(self, learn: bool = False) -> None:
        if learn:
            if self.training.clip is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip)
            self.optimiser.step()
        self.done += 1
        if self.schedule is not None and self.done < self.steps:  # the last step has no successor
            self.schedule.step()
