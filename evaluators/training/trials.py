"""Training as a trial: settings from the genome, a report an epoch, a predicted test loss, and a checkpoint
to go on from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from evaluators.assessment import assess, assessed
from evaluators.base import RESUME, Candidate, Evaluator, Report
from evaluators.data.base import SPLITS, Data, Split
from evaluators.data.preloaded import Preloaded
from evaluators.tic import TIC, RegimeGauge
from evaluators.tic.bias import BiasEstimate
from evaluators.training.checkpoint import Checkpoint, left_before
from evaluators.training.evaluator import fit
from evaluators.training.genome_settings import check_settings, settings_of
from evaluators.training.optimisation import OptimiserName, ScheduleName
from evaluators.training.settings import (
    EPOCH_GENES,
    LATER,
    STEP_GENES,
    OwnsSettings,
    Precision,
    TrainingSettings,
)
from spaces.base import Space
from spaces.calling import device_of
from spaces.errors import InputError, require
from spaces.names import with_former

TUNABLE = (*STEP_GENES, *EPOCH_GENES)
"""Settings that a genome may hold, with ``training.`` before them or without."""

STEADY = "steady_loss"
"""A metric of the whole curve so far, not of the epoch alone."""

_WINDOW = 5
_ASSESS_BATCH = 256
_FARTHEST = (
    1e9  # reports hold finite numbers only, and weights that all began at zero have moved infinitely far
)
_PREDICTED = ("tic_bias", "mean_bias", "tic_error", "predicted_loss", "movement")
_TRACE = "tic_trace"


class TrialTraining(OwnsSettings, Evaluator):
    """Trains the candidate's model from scratch; the genome's settings stand over those given here.

    Reports, one an epoch: ``train_loss``, ``loss`` and the data's metrics on the `monitor` split; with `tic`
    also ``tic_bias``, ``mean_bias`` (its mean over the epochs so far), ``tic_error`` (its standard error),
    ``predicted_loss`` (train_loss + tic_bias), ``movement`` (the regime gauge) and, where `tic` says it,
    ``tic_trace``, all with the weights after the epoch; and ``steady_loss``, the lowest mean so far of
    ``loss`` (plus a share of ``tic_bias``) over five epochs in a row: a lone lucky epoch on a small split
    does not win by it, so choose among finished trials by it. [O]

    Where `keep_best` puts an earlier epoch's weights back, one more report repeats that epoch's metrics. A
    training that diverges ends with a report that is not finite, for the strategy to see. The learning rate's
    schedule spans `epochs`, however early a trial is stopped.

    With a ``state`` folder (the engine gives it) everything that a training needs is written to
    ``state/trials/<id>.pt`` before an epoch is reported. A candidate that has such a file, or whose last
    parent has one (operator ``resume``), gives all reports from the first epoch on and then trains on, bit by
    bit as if it had never been stopped. A file that is damaged, or of another genome, data or setting, counts
    as none. A file that a run over fewer epochs left (a search that begins with that run brings it) counts,
    too: its epochs are reported, and training goes on to `epochs`, on this training's schedule. With a
    constant rate that is what so many epochs would have given at once. Files stay when a trial has ended,
    three to five times the weights each. Workers on several machines need the folder on a file system that
    they share; where they do not, a trial begins anew.

    The arguments from `optimiser` on are those of :class:`Training`.

    Args:
        epochs: the maximum resource, of a training that is not stopped.
        tic: predicts the test loss after every epoch; null: no prediction.
        bias_split: the split that the bias is estimated on: ``search`` (validation data tell more),
            ``calibration`` or ``train``.
        bias_samples: the first samples of it, the same for all candidates: the bias depends on their number.
        train_loss: what ``train_loss`` is where `tic` is on: ``measured`` in eval mode with the weights after
            the epoch, as the theory has it (one more forward pass over the training split), or ``running``,
            the mean over the epoch as without `tic`.
        bias_share: of ``tic_bias`` in ``steady_loss``; .2 was settled on the tuning tasks of
            benchmarks/trial_pruning. [O]
        checkpoint_every: epochs from one checkpoint to the next; the last epoch is always written.

    Raises:
        InputError: a setting out of its range, named; when it is bound: no data, a parameter of the space
            that no part takes, too few samples for the bias, a loss whose likelihood is not known.
    """

    measures = trains = True
    later_arguments = LATER

    def __init__(
        self,
        epochs: int = 27,
        tic: TIC | None = None,
        bias_split: Split = "search",
        bias_samples: int = 64,
        train_loss: Literal["measured", "running"] = "measured",
        bias_share: float = 0.2,
        checkpoint_every: int = 1,
        optimiser: OptimiserName = "adamw",
        learning_rate: float = 3e-3,
        weight_decay: float = 0.01,
        batch_size: int = 64,
        schedule: ScheduleName = "one-cycle",
        clip: float | None = None,
        monitor: Split = "search",
        keep_best: bool = True,
        patience: int | None = None,
        precision: Precision | None = None,
        accumulation: int | None = None,
        checkpointing: Sequence[str] | None = None,
    ) -> None:
        require(
            "evaluator TrialTraining",
            (
                bias_split in SPLITS and bias_split != "test",
                f"bias_split {bias_split!r}; expected search, calibration or train",
            ),
            (bias_samples >= 4, f"bias_samples {bias_samples}; expected at least 4"),
            (
                train_loss in ("measured", "running"),
                f"train_loss {train_loss!r}; expected measured or running",
            ),
            (bias_share >= 0, f"bias_share {bias_share}; expected at least 0"),
            (checkpoint_every >= 1, f"checkpoint_every {checkpoint_every}; expected at least 1"),
        )
        self.tic, self.bias_split, self.bias_samples = tic, bias_split, bias_samples
        self.train_loss, self.bias_share, self.checkpoint_every = train_loss, bias_share, checkpoint_every
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
            None,
            precision,
            accumulation,
            None if checkpointing is None else tuple(checkpointing),
        )

    goes_on = True

    @property
    def epochs(self) -> int:  # type: ignore[override]
        return self.settings.epochs

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        return (
            "train_loss",
            "loss",
            STEADY,
            *assessed(self.data)[1:],
            *(_PREDICTED if self.tic else ()),
            *((_TRACE,) if self.tic and self.tic.trace else ()),
        )

    def bind(self, space: Space, data: Data | None = None) -> None:
        super().bind(space, data)
        if data is None:
            raise InputError("evaluator TrialTraining: no data; expected data with a training split")
        check_settings(space, TUNABLE, "TrialTraining")
        self._batches = Preloaded(data)
        self._bias = None
        if self.tic is not None:
            self._bias = BiasEstimate(
                "TrialTraining", self.tic, data, self.bias_split, self.bias_samples, self._batches
            )

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        assert self.data is not None
        settings = self.settings.changed(settings_of(self.space, candidate.genome))
        watch = None if self._bias is None else _Prediction(self, self._bias, model, self._batches)
        reports = fit(model, self.data, settings, watch=watch, checkpoint=self._checkpoint(candidate))
        yield from _with_steady_loss(reports, self.bias_share)

    def _checkpoint(self, candidate: Candidate) -> Checkpoint | None:
        if self.state is None:
            return None
        assert self.data is not None
        folder = Path(self.state) / "trials"
        earlier = (
            [folder / f"{candidate.parents[-1]}.pt"]
            if candidate.operator == RESUME and candidate.parents
            else []
        )
        genome = candidate.genome.tobytes().hex()
        key = with_former(lambda: json.dumps([self.space.fingerprint, genome, *self._key()], default=str))
        before = left_before(Path(self.state), candidate.genome), self._extends
        return Checkpoint(folder / f"{candidate.id}.pt", key, earlier, self.checkpoint_every, before)

    def _key(self) -> tuple[str, list[Any]]:
        """Return what a checkpoint belongs to, beside the genome: data and settings."""
        assert self.data is not None
        # checkpoints of before TIC had this setting are those of a TIC without it
        told = {} if self.tic is None else vars(self.tic)
        tic = None if self.tic is None else sorted(item for item in told.items() if item != ("trace", None))
        settings = {name: value for name, value in self.settings.told().items() if name != "distillation"}
        return self.data.fingerprint, [settings, self.bias_split, self.bias_samples, self.train_loss, tic]

    def _extends(self, key: str) -> bool:
        """Whether a key is that of the same training over fewer epochs; its genome is looked up by the file's
        name.
        """
        _, _, data, (settings, *others) = json.loads(key)
        here, (own, *rest) = json.loads(json.dumps(self._key(), default=str))
        longer = own["epochs"] > settings["epochs"]
        return longer and [data, settings | {"epochs": own["epochs"]}, others] == [here, own, rest]


def _with_steady_loss(reports: Iterator[Report], share: float) -> Iterator[Report]:
    seen: list[dict[str, float]] = []
    values: list[float] = []
    lowest = math.inf
    for report in reports:
        metrics = report.metrics
        # else the weights of an earlier epoch were put back
        if metrics not in seen[:-1] or metrics == seen[-1]:
            seen.append(metrics)
            values.append(metrics["loss"] + share * metrics.get("tic_bias", 0.0))
            lowest = min(lowest, sum(values[-_WINDOW:]) / len(values[-_WINDOW:]))
        more = {STEADY: lowest if math.isfinite(values[-1]) else values[-1]}
        if "tic_bias" in metrics:
            until = seen[: seen.index(metrics) + 1]
            more["mean_bias"] = sum(found["tic_bias"] for found in until) / len(until)
        yield Report(metrics | more, report.step, report.arrays)


class _Prediction:
    """TIC after every epoch, and how far the weights have moved since the first one began."""

    def __init__(
        self, evaluator: TrialTraining, bias: BiasEstimate, model: nn.Module, batches: Preloaded
    ) -> None:
        self._evaluator, self._bias, self._model, self._batches = evaluator, bias, model, batches
        self._gauge = RegimeGauge(model)

    def __call__(self, metrics: dict[str, float]) -> dict[str, float]:
        data = self._evaluator.data
        assert data is not None
        if self._evaluator.train_loss == "measured":
            train = assess(
                self._model,
                data,
                self._batches.batches("train", _ASSESS_BATCH, device_of(self._model)),
                whole=False,
            )
            metrics = metrics | {"train_loss": train["loss"]}
        found = self._bias(self._model, metrics["train_loss"], self._gauge)
        # it diverges, which the strategy is to see
        names = [name for name in self._evaluator.metrics if name in (*_PREDICTED, _TRACE)]
        told = dict.fromkeys(names, math.nan) if found is None else found.metrics()
        return metrics | told | {"movement": min(told["movement"], _FARTHEST)}

    def state(self) -> dict[str, Tensor]:
        return self._gauge.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._gauge = RegimeGauge(self._model, state=state)
