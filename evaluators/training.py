"""Training: gradient steps on the model that is given, with a report an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from evaluators.assessment import assess
from evaluators.base import Candidate, Evaluator, Report
from evaluators.data.base import SPLITS, Data, Split
from evaluators.data.preloaded import Preloaded, to_device
from evaluators.distillation import Distillation
from evaluators.optimisation import (
    OPTIMISERS,
    SCHEDULES,
    OptimiserName,
    ScheduleName,
    make_optimiser,
    make_schedule,
    needs_two_samples,
    train_mode,
)
from operators.forward import device_of, forward
from spaces.base import Space
from spaces.channels.trace import mode
from spaces.errors import InputError

_ASSESS_BATCH = 256


class Training(Evaluator):
    """Trains the candidate's model: ``train_loss`` (what was minimised), and ``loss`` and the data's metrics on the `monitor` split.

    As an evaluator it reports every epoch; :func:`fit` is the same for any model, with these settings.

    Args:
        epochs: passes over the training split.
        optimiser: ``adamw`` or ``sgd`` (Nesterov momentum .9). Norms, biases and other vectors do not decay; frozen parameters stay.
        learning_rate: at the peak of the cycle.
        weight_decay: of the weights.
        batch_size: of training.
        schedule: ``one-cycle`` or ``constant``.
        clip: largest norm of the gradient; None leaves it as it is.
        monitor: the split that is measured after every epoch, picks the epoch whose weights are kept and ends training early; not test.
        keep_best: end with the weights of the epoch of the lowest loss on `monitor`, else with the last.
        patience: epochs without a lower loss on `monitor` after which training ends early; None trains to the end.
        distillation: learn from the base model as well; None for labels only.

    Raises:
        InputError: a setting out of its range, named.
    """

    def __init__(
        self,
        epochs: int = 30,
        optimiser: OptimiserName = "adamw",
        learning_rate: float = 3e-3,
        weight_decay: float = 0.01,
        batch_size: int = 64,
        schedule: ScheduleName = "one-cycle",
        clip: float | None = None,
        monitor: Split = "search",
        keep_best: bool = True,
        patience: int | None = None,
        distillation: Distillation | None = None,
    ) -> None:
        for ok, text in [
            (epochs >= 1, f"epochs {epochs}; expected at least 1"),
            (batch_size >= 1, f"batch_size {batch_size}; expected at least 1"),
            (learning_rate > 0, f"learning_rate {learning_rate}; expected a number above 0"),
            (weight_decay >= 0, f"weight_decay {weight_decay}; expected a number of at least 0"),
            (optimiser in OPTIMISERS, f"optimiser {optimiser!r}; expected {' or '.join(OPTIMISERS)}"),
            (schedule in SCHEDULES, f"schedule {schedule!r}; expected {' or '.join(SCHEDULES)}"),
            (clip is None or clip > 0, f"clip {clip}; expected a number above 0 or null"),
            (patience is None or patience >= 1, f"patience {patience}; expected at least 1 or null"),
            (
                monitor in SPLITS and monitor != "test",
                f"monitor {monitor!r}; expected train, calibration or search",
            ),
        ]:
            if not ok:
                raise InputError(f"training: {text}")
        self.epochs, self.optimiser, self.learning_rate, self.weight_decay = epochs, optimiser, learning_rate, weight_decay
        self.batch_size, self.schedule, self.clip = batch_size, schedule, clip
        self.monitor, self.keep_best, self.patience, self.distillation = monitor, keep_best, patience, distillation
        self._teacher: nn.Module | None = None

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("train_loss", "loss", *(self.data.metric_names if self.data else ()))

    def bind(self, space: Space, data: Data | None = None) -> None:
        """Raises :class:`InputError` without data, or where distillation has no base model to learn from."""
        super().bind(space, data)
        if data is None:
            raise InputError("evaluator Training: no data; expected data with a training split")
        if self.distillation and space.base is None:
            raise InputError(
                f"training: distillation, but {type(space).__name__} has no base model; expected distillation null or a space with a base"
            )
        self._teacher = None

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        assert self.data is not None
        yield from fit(model, self.data, self, self.teacher())

    def teacher(self) -> nn.Module | None:
        """Return the base model where distillation is on; built once a process."""
        if self.distillation and self._teacher is None:
            assert self.space.base is not None
            with torch.random.fork_rng(devices=[]):  # building may draw numbers that belong to the candidate
                self._teacher = self.space.build(self.space.base)
        return self._teacher

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_teacher": None}


def fit(model: nn.Module, data: Data, training: Training, teacher: nn.Module | None = None) -> Iterator[Report]:
    """Train `model` in place where it is (its device); yield a report an epoch, steps counting from 1.

    Where the weights of an earlier epoch are kept, one more report, a step later, repeats that epoch's metrics: the last report always
    describes the weights that the model ends with. The order of the samples follows from ``torch.initial_seed()`` alone. A training loss
    that is not finite is reported and ends the training. The model comes back in the modes that it had.

    Args:
        teacher: learned from where `training` has a distillation; it stays as it is.

    Raises:
        InputError: no parameter requires a gradient; distillation without a teacher.
    """
    if training.distillation and teacher is None:
        raise InputError("training: distillation without a teacher; expected the unpruned model")
    loop = _Loop(model, data, training, teacher if training.distillation else None)
    watched = Preloaded(data)
    best, best_metrics, best_weights, best_step = math.inf, {}, {}, 0
    for step in range(1, training.epochs + 1):
        metrics = {"train_loss": loop.epoch()} | assess(model, data, watched.batches(training.monitor, _ASSESS_BATCH, device_of(model)))
        yield Report(metrics, step)
        if not math.isfinite(metrics["train_loss"]):
            return
        if metrics["loss"] < best:
            best, best_metrics, best_step = metrics["loss"], metrics, step
            best_weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()} if training.keep_best else {}
        if training.patience and step - best_step >= training.patience:
            break
    if best_weights and best_step < step:
        model.load_state_dict(best_weights)
        yield Report(best_metrics, step + 1)


class _Loop:
    """Optimiser, schedule and order of samples of one training."""

    def __init__(self, model: nn.Module, data: Data, training: Training, teacher: nn.Module | None) -> None:
        self.model, self.data, self.training, self.teacher = model, data, training, teacher
        self.device = device_of(model)
        if teacher is not None:
            teacher.to(self.device)
        self.steps = training.epochs * math.ceil(data.size("train") / training.batch_size)
        self.optimiser = make_optimiser(training.optimiser, model, training.learning_rate, training.weight_decay)
        self.schedule = make_schedule(training.schedule, self.optimiser, training.learning_rate, self.steps)
        self.done = 0
        self.order = torch.Generator().manual_seed(torch.initial_seed() % 2**63)

    def epoch(self) -> float:
        """Train one epoch; return the mean training loss of its samples, each before the step that learned from it."""
        total, samples = torch.zeros((), dtype=torch.float64, device=self.device), 0
        with mode(self.model, True):
            train_mode(self.model)
            two = needs_two_samples(self.model)
            for batch in self.data.batches("train", self.training.batch_size, self.order):
                inputs, targets = to_device(batch, self.device)
                if len(targets) == 1 and two and samples:
                    self._step()  # the last batch has no statistics: nothing is learned from it, and the schedule goes on
                    continue
                losses = self._losses(inputs, targets)
                self.optimiser.zero_grad()
                losses.mean().backward()
                self._step(learn=True)
                total += losses.detach().sum(dtype=torch.float64)
                samples += len(targets)
        return total.item() / samples

    def _losses(self, inputs: Any, targets: Tensor) -> Tensor:
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
