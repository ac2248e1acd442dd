"""The best trial of a hyper-parameter search, as it was trained, measured on the test split."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from evaluators.assessment import assess, assessed
from evaluators.base import Candidate, Evaluator, Report
from evaluators.data.base import Data
from evaluators.data.preloaded import Preloaded
from evaluators.training.weights import pack_weights
from spaces.base import Space, Trained
from spaces.calling import device_of
from spaces.errors import InputError

_BATCH = 256


class TrialTest(Evaluator):
    """Evaluates once more, which costs nothing where a checkpoint has it all, then measures the test split,
    once.

    Reports: those of the evaluator, and a final one with ``test_loss``, ``test_error``, ... and the weights
    that the model ended with as ``arrays["weights"]`` (see
    :func:`evaluators.training.weights.unpack_weights`). Where the space builds networks that are trained
    already (a :class:`~spaces.cells.SupernetSpace` over one), ``test_loss_before`` and so on are those of the
    network before the evaluation.

    Args:
        evaluator: of the search, bound.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        return (
            *self.evaluator.metrics,
            *(f"test_{name}" for name in assessed(self.data)),
        )

    def bind(self, space: Space, data: Data | None = None) -> None:
        """Raises :class:`InputError` without data."""
        super().bind(space, data)
        if data is None:
            raise InputError("finish: no data; expected data with a test split")

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        assert self.data is not None
        last = Report({})
        before = (
            {f"{name}_before": value for name, value in self._tested(model).items()}
            if isinstance(self.space, Trained) and self.space.trained
            else {}
        )
        for last in self.evaluator.evaluate(model, candidate):
            yield Report(dict(last.metrics), last.step)
        yield Report(
            last.metrics | before | self._tested(model), last.step + 1, {"weights": pack_weights(model)}
        )

    def _tested(self, model: nn.Module) -> dict[str, float]:
        assert self.data is not None
        measured = assess(model, self.data, Preloaded(self.data).batches("test", _BATCH, device_of(model)))
        return {f"test_{name}": value for name, value in measured.items()}
