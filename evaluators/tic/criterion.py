"""Takeuchi's information criterion of a model in training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evaluators.tic.estimators import ESTIMATORS
from evaluators.tic.gauge import RegimeGauge
from evaluators.tic.gradients import Path, gradients
from evaluators.tic.likelihood import CrossEntropy, Likelihood, as_likelihood
from evaluators.tic.prediction import Prediction
from spaces.calling import Inputs, device_of, placed
from spaces.errors import InputError, require

EstimatorName = Literal["exact", "block", "diagonal", "trace", "gram"]
_FEWEST = 4


class NonFiniteGradients(InputError):
    """The model has diverged: there is nothing to predict."""


class TIC:
    """Predicts the test loss: training loss plus ``scale * Tr((F + lambda I)^-1 C)`` (arXiv 2602.23219). [P]

    C is the mean of outer products of per-sample loss gradients, F the same with labels drawn from the model,
    lambda = `damping` * Tr F, the same rule for all estimators [O]: the value depends on the number of
    samples, so whatever is compared must be given equally many. Everything is computed in eval mode, on the
    loss as it is: no dropout, no augmentation.

    >>> tic = TIC("gram")
    >>> model = torch.nn.Linear(4, 3)
    >>> batch = torch.randn(64, 4), torch.randint(3, (64,))
    >>> found = tic(model, "cross_entropy", batch, train_loss=0.9, n=400)
    >>> found.score == found.train_loss + found.bias
    True

    Args:
        estimator: ``gram`` (the whole matrices at the price of `m` samples), its equal ``exact`` (small nets
            only), ``block``, ``diagonal``, or ``trace`` (the cheapest).
        damping: lambda as a share of Tr F; `trace` needs none.
        scale: ``1/n`` (theory) or ``1`` (as the paper prints it).
        fisher: label draws a sample, or ``all``: every class, weighted by its probability; less noise for
            more time.
        seed: of the draws, the same in every call, so that what is compared sees the same noise.
        splits: how often the samples are halved for the standard error; 0: none, and an error of 0.
        memory: bytes that per-sample gradients may take at a time.
        path: how per-sample gradients are made: by layer hooks, or functional (the reference); None: hooks
            where they agree with autograd.
        trace: whether predictions hold the ``trace`` estimate, too, from the same gradients: a signal for
            :class:`~search.tuning.halving.SuccessiveHalving`. None: no.

    Raises:
        InputError: a setting out of its range.
    """

    later_arguments = ("trace",)

    def __init__(
        self,
        estimator: EstimatorName = "gram",
        damping: float = 1e-3,
        scale: Literal["1/n", "1"] = "1/n",
        fisher: int | Literal["all"] = 1,
        seed: int = 0,
        splits: int = 8,
        memory: int = 256 * 2**20,
        path: Path | None = None,
        trace: bool | None = None,
    ) -> None:
        require(
            "tic",
            (estimator in ESTIMATORS, f"estimator {estimator!r}; expected {' | '.join(ESTIMATORS)}"),
            (damping > 0, f"damping {damping}; expected a number above 0"),
            (scale in ("1/n", "1"), f"scale {scale!r}; expected '1/n' or '1'"),
            (
                fisher == "all" or (isinstance(fisher, int) and fisher >= 1),
                f"fisher {fisher!r}; expected a number of draws or 'all'",
            ),
            (splits >= 0, f"splits {splits}; expected at least 0"),
            (path in (None, "hooks", "functional"), f"path {path!r}; expected hooks, functional or null"),
        )
        self.estimator, self.damping, self.scale, self.fisher = estimator, damping, scale, fisher
        self.seed, self.splits, self.memory, self.path = seed, splits, memory, path
        self.trace = trace

    def __call__(
        self,
        model: nn.Module,
        loss: Likelihood | str | nn.Module | Callable[..., Any],
        batch: tuple[Inputs, Tensor],
        *,
        train_loss: float,
        n: int,
        gauge: RegimeGauge | None = None,
    ) -> Prediction:
        """Estimate the bias on a batch and add it to the training loss.

        Args:
            model: any module whose samples do not influence each other in eval mode; it is left as it was.
            loss: ``cross_entropy`` or ``squared_error``, torch's own loss of these, or a :class:`Likelihood`.
            batch: inputs and targets of the `m` samples that the bias is estimated on; validation samples
                tell more than training ones.
            train_loss: mean loss of the training samples with these weights.
            n: number of training samples.
            gauge: made when the training began.

        Raises:
            InputError: fewer than 4 samples, a BatchNorm without running statistics, a loss or an operation
                that cannot be handled.
            NonFiniteGradients: a loss or gradient that is not finite.
        """
        began = time.perf_counter()
        inputs, targets = batch
        require(
            "TIC",
            (len(targets) >= _FEWEST, f"a batch of {len(targets)} samples; expected at least {_FEWEST}"),
        )
        layers = list(model.modules())
        _check_norms(model, layers)
        device = device_of(model)
        moved = placed(inputs, device)
        with _evaluating(layers), torch.no_grad():
            errors = partial(self._errors, as_likelihood(loss), targets.to(device))
            rows = gradients(model, moved, errors, self.memory, self.path)
            values = ESTIMATORS[self.estimator](self.splits)(rows, self.damping)
            trace = float(ESTIMATORS["trace"](0)(rows, self.damping)[0]) if self.trace else None
        bias, *halves = (value * (1 / n if self.scale == "1/n" else 1.0) for value in values.tolist())
        error = _spread(halves) if halves and all(map(math.isfinite, halves)) else 0.0
        if not math.isfinite(bias):
            raise NonFiniteGradients(f"TIC: the bias is {bias}; expected finite gradients")
        moved_by = None if gauge is None else gauge(model)
        return Prediction(float(train_loss), bias, error, moved_by, time.perf_counter() - began, trace)

    def _errors(self, likelihood: Likelihood, targets: Tensor, outputs: Tensor) -> list[Tensor]:
        """Return gradients of the losses by the outputs: of the true labels, then of every drawn pass, scaled
        so that F = Phi^T Phi / m.
        """
        if not math.isfinite(outputs.sum().item()):
            raise NonFiniteGradients(
                "TIC: outputs that are not finite; expected a model that has not diverged"
            )
        if self.fisher == "all":
            if type(likelihood) is not CrossEntropy or outputs.ndim != 2:
                raise InputError(
                    "TIC: fisher 'all' needs cross-entropy with one label a sample; expected a number of "
                    "draws"
                )
            chances = outputs.softmax(1)
            labels = torch.eye(outputs.shape[1]).to(outputs)
            return [
                likelihood.slope(outputs, targets),
                *((chances - label) * (chances @ label).sqrt().unsqueeze(1) for label in labels),
            ]
        generator = torch.Generator().manual_seed(self.seed)
        factor = 1 / math.sqrt(likelihood.weight(outputs) * self.fisher)
        true, *drawn = likelihood.slopes(outputs, targets, generator, self.fisher)
        return [true, *(drawn if factor == 1 else (slope * factor for slope in drawn))]


def _check_norms(model: nn.Module, layers: Sequence[nn.Module]) -> None:
    """Refuse a BatchNorm that would take its statistics from the batch."""
    mixing = [layer for layer in layers if isinstance(layer, _BatchNorm) and layer.running_mean is None]
    if mixing:
        name = next(name for name, layer in model.named_modules() if layer is mixing[0])
        raise InputError(
            f"TIC: {name} is a BatchNorm without running statistics, so samples depend on each other; "
            f"expected it with them"
        )


@contextmanager
def _evaluating(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Put modules in eval mode, and back afterwards; past nn.Module's own setter, which takes longer than a
    product of matrices.
    """
    training = [module for module in modules if module.training]
    setters = [
        object.__setattr__ if type(module).__setattr__ is nn.Module.__setattr__ else setattr
        for module in training
    ]
    try:
        for module, put in zip(training, setters, strict=True):
            put(module, "training", False)
        yield
    finally:
        for module, put in zip(training, setters, strict=True):
            put(module, "training", True)


def _spread(values: Sequence[float]) -> float:
    """Return the standard deviation; of so few numbers it is had sooner without an array."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
