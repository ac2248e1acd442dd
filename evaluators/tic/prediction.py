"""A prediction of TIC: the bias of its training loss, how sure that is, and whether the theory holds
there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


class Reportable(Protocol):
    """A running trial of Optuna, as far as it is needed here."""

    def report(self, value: float, step: int) -> None: ...

    def set_user_attr(self, key: str, value: Any) -> None: ...


def attribute(step: int) -> str:
    """Name of the trial's user attribute that holds what a pruner needs beside the value reported
    at `step`.
    """
    return f"tic:{step}"


@dataclass(frozen=True)
class Prediction:
    """A predicted test loss: training loss plus Takeuchi's bias. [P]

    Attributes:
        train_loss: mean loss of the training samples (or whatever loss the bias is added to).
        bias: scale * Tr((F + lambda I)^-1 C), in the unit of the loss.
        error: standard error of the bias, by half-sampling. [O]
        movement: regime gauge, ``||theta - theta_0|| / ||theta_0||``; None where the beginning is not known.
            [O]
        seconds: what it took.
        trace: Tr C / Tr F of the same samples; None where :class:`~evaluators.tic.TIC` was not asked for it.
    """

    train_loss: float
    bias: float
    error: float
    movement: float | None = None
    seconds: float = 0.0
    trace: float | None = None

    @property
    def score(self) -> float:
        """The predicted test loss."""
        return self.train_loss + self.bias

    def metrics(self) -> dict[str, float]:
        """Return what a report of an evaluator carries."""
        found = {"tic_bias": self.bias, "tic_error": self.error, "predicted_loss": self.score}
        more = {"movement": self.movement, "tic_trace": self.trace}
        return found | {name: value for name, value in more.items() if value is not None}

    def report(self, trial: Reportable, step: int) -> None:
        """Report the score to a trial of Optuna (any pruner works on it), and beside it what
        :class:`TICPruner` needs.
        """
        trial.set_user_attr(
            attribute(step), {"bias": self.bias, "error": self.error, "movement": self.movement}
        )
        trial.report(self.score, step)
