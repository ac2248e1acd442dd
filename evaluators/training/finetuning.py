"""Fine-tuning: what becomes of a chosen candidate when it is trained, told on the test split."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from evaluators.assessment import assess
from evaluators.base import Candidate, Evaluator, Report
from evaluators.data.base import Data, Split
from evaluators.data.preloaded import Preloaded
from evaluators.training.evaluator import Training, fit
from evaluators.training.weights import pack_weights
from operators.repair.batchnorm import recalibrate
from spaces.base import Space
from spaces.calling import device_of
from spaces.errors import InputError


class FineTuning(Evaluator):
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
        if recalibration in ("search", "test"):
            raise InputError(
                f"evaluator FineTuning: recalibration {recalibration!r}; expected calibration, train or null"
            )
        self.training = training or Training(epochs=8, learning_rate=2e-3)
        self.recalibration, self.batch_size = recalibration, batch_size

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        measured = ("loss", *(self.data.metric_names if self.data else ()))
        return (
            *(f"test_{name}_before" for name in measured),
            *self.training.metrics,
            *(f"test_{name}" for name in measured),
        )

    def bind(self, space: Space, data: Data | None = None) -> None:
        super().bind(space, data)
        self.training.bind(space, data)
        assert data is not None  # or Training would have refused it
        self._batches = Preloaded(data)

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        assert self.data is not None
        if self.recalibration is not None:
            recalibrate(model, self._batches.batches(self.recalibration, self.batch_size, device_of(model)))
        metrics = {f"{name}_before": value for name, value in self._test(model).items()}
        yield Report(dict(metrics))
        step = 0
        for report in fit(model, self.data, self.training, self.training.teacher()):
            metrics |= report.metrics
            step = report.step
            yield Report(dict(metrics), step)
        yield Report(metrics | self._test(model), step + 1, {"weights": pack_weights(model)})

    def _test(self, model: nn.Module) -> dict[str, float]:
        assert self.data is not None
        measured = assess(model, self.data, self._batches.batches("test", self.batch_size, device_of(model)))
        return {f"test_{name}": value for name, value in measured.items()}
