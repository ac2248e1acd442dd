"""Training: gradient steps on the model that is given, with a report an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from evaluators.assessment import assessed
from evaluators.base import Candidate, Evaluator, Report
from evaluators.data.base import Data, Split
from evaluators.training.checkpoint import Checkpoint
from evaluators.training.distillation import Distillation
from evaluators.training.fitting import Fitting, Watch
from evaluators.training.optimisation import OptimiserName, ScheduleName
from evaluators.training.settings import LATER, OwnsSettings, Precision, TrainingSettings
from spaces.base import Space
from spaces.errors import InputError


class Training(OwnsSettings, Evaluator):
    """Trains the candidate's model: ``train_loss`` (what was minimised), and ``loss`` and the data's metrics
    on the `monitor` split.

    As an evaluator it reports every epoch; :func:`fit` is the same for any model, with these settings.

    Args:
        epochs: passes over the training split.
        optimiser: ``adamw`` or ``sgd`` (Nesterov momentum .9). Norms, biases and other vectors do not decay;
            frozen parameters stay.
        learning_rate: at the peak of the cycle.
        weight_decay: of the weights.
        batch_size: of training.
        schedule: ``one-cycle`` or ``constant``.
        clip: largest norm of the gradient; None leaves it as it is.
        monitor: the split that is measured after every epoch, picks the epoch whose weights are kept and ends
            training early; not test.
        keep_best: end with the weights of the epoch of the lowest loss on `monitor`, else with the last.
        patience: epochs without a lower loss on `monitor` after which training ends early; None trains to the
            end.
        distillation: learn from the base model as well; None for labels only.
        precision: ``bf16``: forward passes of the training compute in bfloat16 where torch's autocast does
            so; weights, gradients and what is measured stay as they are.
        accumulation: into so many parts a batch is cut, whose gradients add up to its own: as much less
            memory for the same steps (but for BatchNorm, which sees the parts).
        checkpointing: patterns of module names (``blocks.*``) that compute anew in the backward pass what
            they would else keep: less memory for about a third more time.

    Raises:
        InputError: a setting out of its range, named.
    """

    measures = trains = True
    later_arguments = LATER

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
        precision: Precision | None = None,
        accumulation: int | None = None,
        checkpointing: Sequence[str] | None = None,
    ) -> None:
        self.settings = TrainingSettings(
            epochs,
            optimiser,
            learning_rate,
            weight_decay,
            batch_size,
            schedule,
            clip,
            monitor,
            keep_best,
            patience,
            distillation,
            precision,
            accumulation,
            None if checkpointing is None else tuple(checkpointing),
        )
        self._teacher: nn.Module | None = None

    @property
    def epochs(self) -> int:  # type: ignore[override]
        return self.settings.epochs

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("train_loss", *assessed(self.data))

    def bind(self, space: Space, data: Data | None = None) -> None:
        """Raises :class:`InputError` without data, or where distillation has no base model to learn from."""
        super().bind(space, data)
        if data is None:
            raise InputError("evaluator Training: no data; expected data with a training split")
        if self.distillation and space.base is None:
            raise InputError(
                f"training: distillation, but {type(space).__name__} has no base model; expected "
                f"distillation null or a space with a base"
            )
        self._teacher = None

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        assert self.data is not None
        yield from fit(model, self.data, self.settings, self.teacher())

    def fitted(self, model: nn.Module, data: Data) -> Iterator[Report]:
        """Train any model, without a teacher; yield a report an epoch, the last of the weights that it ends
        with.
        """
        yield from fit(model, data, self.settings)

    def teacher(self) -> nn.Module | None:
        """Return the base model where distillation is on; built once a process."""
        if self.distillation and self._teacher is None:
            assert self.space.base is not None
            with torch.random.fork_rng(devices=[]):  # building may draw numbers that belong to the candidate
                self._teacher = self.space.build(self.space.base)
        return self._teacher

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_teacher": None}


def fit(
    model: nn.Module,
    data: Data,
    training: Training | TrainingSettings,
    teacher: nn.Module | None = None,
    watch: Watch | None = None,
    checkpoint: Checkpoint | None = None,
) -> Iterator[Report]:
    """Train `model` in place where it is (its device); yield a report an epoch, steps counting from 1.

    Where the weights of an earlier epoch are kept, one more report, a step later, repeats that epoch's
    metrics: the last report always describes the weights that the model ends with. The order of the samples
    follows from ``torch.initial_seed()`` alone. A training loss that is not finite is reported and ends the
    training. The model comes back in the modes that it had.

    Args:
        training: the settings, or the evaluator that owns them.
        teacher: learned from where `training` has a distillation; it stays as it is.
        watch: what else is measured after every epoch.
        checkpoint: written before an epoch is reported. What is there already is reported again, all of it,
            and the training goes on from there, bit by bit as if it had never been interrupted.

    Raises:
        InputError: no parameter requires a gradient; distillation without a teacher.
    """
    settings = training.settings if isinstance(training, OwnsSettings) else training
    if settings.distillation and teacher is None:
        raise InputError("training: distillation without a teacher; expected the unpruned model")
    fitting = Fitting(model, data, settings, teacher if settings.distillation else None, watch)
    if checkpoint is not None and (state := checkpoint.load()) is not None:
        fitting.restore(state)
        yield from list(fitting.reports)
    while not fitting.ended:
        report = fitting.epoch()
        if checkpoint is not None and (fitting.ended or report.step % checkpoint.every == 0):
            checkpoint.save(fitting.state())
        yield report
    if (kept := fitting.finish()) is not None:
        yield kept
