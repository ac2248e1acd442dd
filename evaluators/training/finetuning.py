"""What becomes of a chosen candidate, told on the test split: fine-tuned, tuned by a function of the user's,
or as it is.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from evaluators.assessment import assess, assessed
from evaluators.base import Candidate, Evaluator, Report
from evaluators.data.base import Data, Split
from evaluators.data.preloaded import Preloaded
from evaluators.training.evaluator import Training, fit
from evaluators.training.own import Weights, called, figures_of
from evaluators.training.settings import TrainingSettings
from evaluators.training.weights import pack_weights
from operators.repair.batchnorm import recalibrate
from spaces.base import Space
from spaces.callables import function_name
from spaces.calling import device_of, gradients
from spaces.errors import InputError

_ARGUMENTS = 4
"""Of a function that reports: model, data, settings and report."""


class Tested(Evaluator, ABC):
    """Measures the test split after something was done to the candidate, which gets the repair of every
    candidate first; the final report has the weights as ``arrays["weights"]``.
    """

    measures = True

    def __init__(self, recalibration: Split | None = "calibration", batch_size: int = 256) -> None:
        if recalibration in ("search", "test"):
            raise InputError(
                f"evaluator {type(self).__name__}: recalibration {recalibration!r}; expected calibration, "
                f"train or null"
            )
        self.recalibration, self.batch_size = recalibration, batch_size

    def bind(self, space: Space, data: Data | None = None) -> None:
        """Raises :class:`InputError` without data."""
        super().bind(space, data)
        if data is None:
            raise InputError(f"evaluator {type(self).__name__}: no data; expected data with a test split")
        self._batches = Preloaded(data)

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        assert self.data is not None
        if self.recalibration is not None:
            recalibrate(model, self._batches.batches(self.recalibration, self.batch_size, device_of(model)))
        yield from self.tested(model, candidate)

    @abstractmethod
    def tested(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        """Yield the reports on a model that has been repaired."""

    def test(self, model: nn.Module, suffix: str = "") -> dict[str, float]:
        """Return ``test_loss``, ``test_error``, ... with a suffix."""
        return {f"test_{name}{suffix}": value for name, value in self._assess(model, "test").items()}

    def ended(self, model: nn.Module, step: int, known: Mapping[str, float]) -> Report:
        """Return the final report of a model that we did not train ourselves: its metrics on the search split
        and on the test split, and its weights.
        """
        metrics = {**known, **self._assess(model, "search"), **self.test(model)}
        return Report(metrics, step, {"weights": pack_weights(model)})

    def _assess(self, model: nn.Module, split: Split) -> dict[str, float]:
        assert self.data is not None
        return assess(model, self.data, self._batches.batches(split, self.batch_size, device_of(model)))


class FineTuning(Tested):
    """Test metrics of the repaired candidate before and after training: ``test_loss_before``,
    ``test_error_before``, ``test_loss``, ...

    The test split is only measured: epochs are chosen on the `monitor` split of the training. Reports: step 0
    before training, then one an epoch with the metrics of :class:`Training` as well, and the final one with
    the tuned weights as ``arrays["weights"]`` (the bytes of a safetensors file, uint8;
    :func:`evaluators.training.weights.unpack_weights`). The model that is given ends with those weights.

    Args:
        training: its settings (with distillation the teacher is the space's base model); None: 8 epochs at a
            learning rate of 2e-3.
        recalibration: the split whose inputs give the BatchNorm statistics before training, as in
            :class:`Quality`; None leaves them.
        batch_size: of recalibration and measuring.
    """

    def __init__(
        self,
        training: Training | None = None,
        recalibration: Split | None = "calibration",
        batch_size: int = 256,
    ) -> None:
        super().__init__(recalibration, batch_size)
        self.training = training or Training(epochs=8, learning_rate=2e-3)

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        before, after = _before_and_after(self.data)
        return (*before, *self.training.metrics, *after)

    def bind(self, space: Space, data: Data | None = None) -> None:
        super().bind(space, data)
        self.training.bind(space, data)

    def tested(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        assert self.data is not None
        metrics = self.test(model, "_before")
        yield Report(dict(metrics))
        step = 0
        for report in fit(model, self.data, self.training, self.training.teacher()):
            metrics |= report.metrics
            step = report.step
            yield Report(dict(metrics), step)
        yield Report(metrics | self.test(model), step + 1, {"weights": pack_weights(model)})


class Untuned(Tested):
    """Metrics of the repaired candidate as it is, on the search split and on the test split: ``loss``,
    ``test_loss``, ``test_error``, ...

    Args:
        recalibration: as in :class:`FineTuning`.
        batch_size: of recalibration and measuring.
    """

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        names = assessed(self.data)
        return (*names, *(f"test_{name}" for name in names))

    def tested(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        yield self.ended(model, 0, {})


class OwnTuning(Tested):
    """Test metrics of the repaired candidate before and after a function of the user's tuned it, as those of
    :class:`FineTuning`, and those of the tuned one on the search split.

    The function is called as ``tune(model, data, settings)``: with the compact model, which it may change in
    place, the data of the run, and :class:`~evaluators.training.settings.TrainingSettings`. It returns the
    tuned model, or None where that is the one it was given. It may be a generator, too, which yields figures
    by name now and then, for people, and returns the model at its end. One with a fourth argument gets
    `report` there, to be called with such figures, as in :class:`~evaluators.training.OwnTraining`: the same
    function trains and tunes. torch's, NumPy's and Python's random
    numbers are seeded for the candidate; gradients are on.

    What it returns is measured in the architecture that the candidate had: the tensors of its ``state_dict``
    (names, shapes, types) must be the same, perhaps behind the ``_orig_mod.`` of ``torch.compile`` or the
    ``module.`` of a parallel wrapper, and are loaded into a new copy of the compact model. So attributes that
    it changes have no effect.

    Args:
        function: of the user's.
        settings: handed to it.
        place: what the user knows it by.
        recalibration: as in :class:`FineTuning`.
        batch_size: of recalibration and measuring.
    """

    def __init__(
        self,
        function: Callable[[nn.Module, Data, TrainingSettings], Any],
        settings: TrainingSettings,
        place: str = "finish.tune",
        recalibration: Split | None = "calibration",
        batch_size: int = 256,
    ) -> None:
        super().__init__(recalibration, batch_size)
        self.function, self.settings, self.place = function, settings, place

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        before, after = _before_and_after(self.data)
        return (*before, *assessed(self.data), *after)

    def tested(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        assert self.data is not None
        metrics = self.test(model, "_before")
        yield Report(dict(metrics))
        before = Weights(model)
        modes = [(module, module.training) for module in model.modules()]
        step = 0
        with gradients():
            returned = self._started(model, self.data)
        if inspect.isgenerator(returned):
            while True:
                try:
                    with gradients():
                        figures = next(returned)
                except StopIteration as end:
                    returned = end.value
                    break
                step += 1
                yield Report(metrics | figures_of(self.function, self.place, figures), step)
        who = f"{self.place}: {function_name(self.function)}"
        state = before.of(model if returned is None else returned, who)
        for module, training in modes:
            module.training = training
        with torch.random.fork_rng(devices=[]):
            compact = self.space.build(candidate.genome).to(device_of(model))
        compact.load_state_dict(state, strict=False)
        yield self.ended(compact, step + 1, metrics)

    def _started(self, model: nn.Module, data: Data) -> Any:
        """Call the function; of one that reports return a generator of what it reports."""
        if not _reports(self.function):
            return self.function(model, data, self.settings)
        return called(self.function, self.place, model, data, self.settings)


def _reports(function: Callable[..., Any]) -> bool:
    """Whether a function has an argument for `report`, one without a default."""
    parameters = inspect.signature(function).parameters.values()
    needed = [
        p
        for p in parameters
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return len(needed) >= _ARGUMENTS


def _before_and_after(data: Data | None) -> tuple[list[str], list[str]]:
    names = assessed(data)
    return [f"test_{name}_before" for name in names], [f"test_{name}" for name in names]
