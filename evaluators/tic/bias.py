"""TIC's bias as evaluators report it: on the first samples of a split, the same for all candidates."""

from __future__ import annotations

import torch
from torch import nn

from evaluators.data.base import Data, Split
from evaluators.data.preloaded import Preloaded
from evaluators.data.segmentation import Segmentation
from evaluators.data.task import Classification, Regression
from evaluators.tic import TIC, CrossEntropy, Likelihood, NonFiniteGradients, RegimeGauge, SquaredError
from evaluators.tic.prediction import Prediction
from spaces.calling import device_of
from spaces.errors import InputError


class BiasEstimate:
    """Asks TIC of a model; draws nothing from the random numbers outside.

    Args:
        owner: the evaluator, in messages.
        tic: the criterion.
        data: whose loss is explained.
        split: that the bias is estimated on: ``search`` (validation data tell more), ``calibration`` or
            ``train``.
        samples: the first ones of it: the bias depends on their number.
        batches: of the data, where they are held anyway.

    Raises:
        InputError: too few samples, or a loss whose likelihood is not known.
    """

    def __init__(
        self,
        owner: str,
        tic: TIC,
        data: Data,
        split: Split = "search",
        samples: int = 64,
        batches: Preloaded | None = None,
    ) -> None:
        if (size := data.size(split)) < samples:
            raise InputError(
                f"evaluator {owner}: bias_samples {samples}; expected at most {size}, the size of split "
                f"{split!r}"
            )
        self.tic, self.split, self.samples = tic, split, samples
        self._likelihood, self._batches = likelihood_of(data, owner), batches or Preloaded(data)
        self._n = data.size("train")
        classes = data.task.classes if isinstance(data.task, Classification | Segmentation) else None
        draws = tic.fisher if isinstance(tic.fisher, int) else classes or 1
        self.passes = samples * (1.0 + 2.0 * (1 + draws))
        """Sample passes that an estimate takes, in forward passes: of one, and of two each backwards for true
        and for drawn labels.
        """

    def __call__(
        self, model: nn.Module, train_loss: float, gauge: RegimeGauge | None = None
    ) -> Prediction | None:
        """Return what TIC says of a model with this training loss; None of one that has diverged."""
        device = device_of(model)
        (batch,) = self._batches.batches(self.split, self.samples, device, 1)
        try:
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                return self.tic(model, self._likelihood, batch, train_loss=train_loss, n=self._n, gauge=gauge)
        except (NonFiniteGradients, torch.linalg.LinAlgError):
            return None


def likelihood_of(data: Data, owner: str = "TrialTraining") -> Likelihood | str:
    """Return what TIC takes as the loss of these data: what ``data.likelihood()`` says, else that of their
    task.

    Raises:
        InputError: a loss of the user's own without that method.
    """
    own = data.likelihood()
    if own is not None:
        return own
    if data.task is not None:
        if type(data.task).loss is Classification.loss:
            return CrossEntropy()
        if type(data.task).loss is Regression.loss:
            return SquaredError()
    raise InputError(
        f"evaluator {owner}: tic does not know the likelihood behind the loss of {type(data).__name__}; "
        f"expected the task "
        "Classification or Regression, or a method likelihood() that returns an evaluators.tic.Likelihood"
    )
