"""Training by a function of the user's, in the place of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

from torch import Tensor, nn

from evaluators.assessment import assess, assessed
from evaluators.base import Candidate, Report
from evaluators.data.base import Data, Split
from evaluators.data.preloaded import Preloaded
from evaluators.training.evaluator import Training
from evaluators.training.genome_settings import check_settings, settings_of
from evaluators.training.lockstep import reported
from evaluators.training.settings import EPOCH_GENES, STEP_GENES, TrainingSettings
from spaces.base import Space
from spaces.callables import FunctionSpec, function_name, function_of, function_text
from spaces.calling import device_of
from spaces.errors import InputError

_BATCH = 256


class OwnTraining(Training):
    """Trains by a function of the user's: ``loss`` and the data's metrics on the `monitor` split, and what
    figures the function adds.

    It stands wherever :class:`Training` does, as an evaluator (of a hyper-parameter search as well) and as
    the training of the base model; a plain function given in one of these places becomes one. It is called as
    ``train(model, data, budget, report)``:

    - `model`: to be trained in place, on its device; or another is returned, with the same tensors.
    - `data`: of the run; ``data.batches("train", size, generator)`` and ``data.loss(outputs, targets)``.
    - `budget`: :class:`~evaluators.training.settings.TrainingSettings`. Its ``epochs`` are the passes over
      the training split that a run pays for; ``learning_rate``, ``batch_size`` and the others are there to be
      used, those of the genome where it holds any.
    - `report`: to be called after every epoch, with figures by name where there are some
      (``report(train_loss=0.3)``). The model is measured then, and what searches decides. Of a trial that it
      stops, `report` does not come back: it raises, as an interrupt does, what ``except Exception`` lets
      pass, so that ``finally`` can tidy up.

    torch, NumPy and Python are seeded for the candidate. The function runs in a thread of its own, in which
    gradients are on. What it raises makes the candidate fail; the weights are those that it ends with.

    Args:
        function: itself, its path ``module.function``, or ``class_path`` and ``init_args`` of a class whose
            objects are called.
        epochs: handed to it; so are `learning_rate`, `batch_size` and `weight_decay`.
        monitor: the split that is measured at every report; not test.

    Raises:
        InputError: a setting out of its range, or a function that does not import.
    """

    def __init__(
        self,
        function: FunctionSpec,
        epochs: int = 30,
        learning_rate: float = 3e-3,
        batch_size: int = 64,
        weight_decay: float = 0.01,
        monitor: Split = "search",
    ) -> None:
        super().__init__(
            epochs,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            batch_size=batch_size,
            monitor=monitor,
            keep_best=False,
        )
        self._train = function_of(function, "training: function")
        self.function = function_text(self._train)

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        return assessed(self.data)

    def bind(self, space: Space, data: Data | None = None) -> None:
        super().bind(space, data)
        check_settings(space, (*STEP_GENES, *EPOCH_GENES), "OwnTraining")

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        assert self.data is not None
        genes = settings_of(self.space, candidate.genome)
        yield from self._reports(model, self.data, self.settings.changed(genes))

    def fitted(self, model: nn.Module, data: Data) -> Iterator[Report]:
        yield from self._reports(model, data, self.settings)

    def _reports(self, model: nn.Module, data: Data, budget: TrainingSettings) -> Iterator[Report]:
        before, modes = Weights(model), [(module, module.training) for module in model.modules()]
        batches, last = Preloaded(data), Report({})

        def measured(figures: Mapping[str, float]) -> dict[str, float]:
            found = batches.batches(budget.monitor, _BATCH, device_of(model))
            return {**figures, **assess(model, data, found)}

        figures: dict[str, float] = {}
        running = called(self._train, "training", model, data, budget)
        with closing(running):
            while True:
                try:
                    figures = next(running)
                except StopIteration as end:
                    returned = end.value
                    break
                last = Report(measured(figures), last.step + 1)
                yield last
        if returned is not None and returned is not model:
            model.load_state_dict(
                before.of(returned, f"training: {function_name(self._train)}"), strict=False
            )
        for module, training in modes:
            module.training = training
        metrics = measured(figures)
        if metrics != last.metrics:
            yield Report(metrics, last.step + 1)


def own_training(given: Any) -> Any:
    """Return an evaluator: itself, or the training by a function that is given."""
    return OwnTraining(given) if callable(given) else given


def called(function: Callable[..., Any], place: str, *given: Any) -> Any:
    """Return a generator that calls a function of the user's with `report` as its last argument, yields the
    figures that it reports, and returns its result.
    """

    def call(report: Callable[[dict[str, float]], None]) -> Any:
        def take(figures: Mapping[str, Any] | None = None, /, **more: Any) -> None:
            report(figures_of(function, place, {**(figures or {}), **more}))

        return function(*given, take)

    return reported(call)


def figures_of(function: Callable[..., Any], place: str, figures: Any) -> dict[str, float]:
    """Return figures by name as plain numbers.

    Raises:
        InputError: they are something else.
    """
    if not isinstance(figures, Mapping):
        raise InputError(
            f"{place}: {function_name(function)} yields {type(figures).__name__}; expected figures by name"
        )
    try:
        return {
            str(name): float(value.detach() if isinstance(value, Tensor) else value)
            for name, value in figures.items()
        }
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{place}: {function_name(function)} reports what is no number ({error}); expected numbers "
            f"by name"
        ) from None


class Weights:
    """Names, shapes and types of the tensors of a model before it was given away."""

    def __init__(self, model: nn.Module) -> None:
        self._known = {name: (tuple(x.shape), x.dtype) for name, x in tensors_of(model).items()}

    def of(self, tuned: Any, who: str) -> dict[str, Tensor]:
        """Return the tensors of a model that came back, under the names that they had.

        Args:
            who: gave it back.

        Raises:
            InputError: it has other tensors.
        """
        if not isinstance(tuned, nn.Module):
            raise InputError(f"{who} returns {type(tuned).__name__}; expected the tuned model, or None")
        state = tensors_of(tuned)
        for prefix in ("_orig_mod.", "module."):
            if state and all(name.startswith(prefix) for name in state):
                state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        for name, (shape, dtype) in self._known.items():
            if name not in state:
                raise InputError(f"{who} returns a model without {name!r}; expected the tensors it was given")
            found = state[name]
            if (tuple(found.shape), found.dtype) != (shape, dtype):
                raise InputError(
                    f"{who} returns {name!r} as {found.dtype} {tuple(found.shape)}; expected "
                    f"{dtype} {shape}, as it was given"
                )
        if more := sorted(state.keys() - self._known.keys()):
            raise InputError(
                f"{who} returns a model with {more[0]!r}, which it was not given; expected the same tensors"
            )
        return state


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a model's ``state_dict``."""
    return {name: x.detach() for name, x in model.state_dict().items() if isinstance(x, Tensor)}
