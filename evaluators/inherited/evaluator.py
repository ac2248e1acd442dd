"""Inherited weights: a child goes on from its parent's tuned weights, so that training is spent once on a
lineage.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from evaluators.base import Candidate, Evaluator, Report
from evaluators.cost.planned import PlannedCosts
from evaluators.data.base import Data, Split
from evaluators.inherited.accounting import Accounting
from evaluators.inherited.allowance import Allowance
from evaluators.inherited.channel_worth import Worth
from evaluators.inherited.files import InheritedFiles, ParentRecord
from evaluators.inherited.parentage import BASE, ORIGIN, ORIGINS, Parentage
from evaluators.inherited.steps import TUNABLE, BriefTraining
from evaluators.inherited.teaching import Teacher
from evaluators.inherited.transfer import transfer_of
from evaluators.quality import Quality
from evaluators.tic import TIC
from evaluators.tic.bias import BiasEstimate
from evaluators.training.distillation import Distillation
from evaluators.training.genome_settings import check_settings, choices_of, settings_of
from evaluators.training.optimisation import OptimiserName, ScheduleName
from evaluators.training.settings import LATER, STEP_GENES, OwnsSettings, Precision, TrainingSettings
from spaces.base import Sliced, Space
from spaces.calling import device_of
from spaces.errors import InputError, require
from spaces.names import with_former

_DIGESTED = (*STEP_GENES, "distillation")


class InheritedTraining(OwnsSettings, Evaluator):
    """A few gradient steps on what the candidate's first parent ended with, then what :class:`Quality`
    measures. [O]

    Weights are inherited as in Real et al. 2017 (arXiv 1703.01041) and Elsken et al. 2019 (arXiv 1804.09081)
    [P]; that channels come back with their ancestors' values is ours.

    A candidate begins with the kept part of its first parent's full tensors, an architecture (of a
    ``ChoiceSpace``) as its first parent's function where it only grew and that can be had, else with what
    their tensors have in common (:mod:`evaluators.inherited.transfer`); one without parents, or whose parent
    left no file, with the slice of the base model that it was built as. It is trained for `steps` on the
    training split, repaired and measured on the search split. Its tensors are put back to their places in the
    parent's full ones, so a channel that a later child grows back comes with the values that its last owner
    gave it. Neither the optimiser's moments nor the weights of further parents are inherited.

    Reports, once: ``train_loss`` (the mean over the steps, each before it is taken; only where there are
    steps), ``loss`` and the data's metrics on the search split, ``generation`` (how many ancestors it goes on
    from), ``lineage_steps`` (gradient steps since the base model, its own included), ``rung`` (where there
    are several: how many of its last ancestors had its genome), with `tic` ``tic_bias`` and ``tic_error``
    (its standard error), ``training_macs`` (where the space has a slice plan: of all passes of the evaluation
    but a teacher's, a backward pass counts 2), ``activation`` as in :class:`Quality`, and with `worth` the
    arrays ``removal`` and ``cost``, ``(length,)``.

    Settings may be genes: where the space is a ``JointSpace`` with a ``HyperParameters`` part, its
    ``learning_rate``, ``weight_decay``, ``batch_size``, ``optimiser``, ``schedule``, ``clip`` and
    ``distillation_weight`` stand over those given here, and ``origin`` says where the candidate's weights
    come from: ``inherited`` of its first parent; ``original``, sliced out of the base model; ``fresh``, drawn
    anew, which with a distillation is distilled from it, and takes `first_steps` where these are given.
    Whoever is trained on by a ladder goes on from itself. [O]

    With a ``state`` folder (the engine gives it) full tensors lie in ``state/lineage/<id>.safetensors``,
    written before the report. A candidate that has its file is not trained again, whoever evaluates it: a
    resumed run, ``Result.build``, the finish, which fine-tunes from there. A file that is damaged or of
    another run or genome counts as none. Files of candidates that can neither become parents any more nor are
    on the front are deleted now and then, where the strategy knows which they are
    (:meth:`search.Strategy.heirs`). Workers on several machines need the folder on a file system that they
    share. Without a folder everybody begins with the base model.

    What stands behind it in a list of evaluators sees the trained model; what changes weights there is not
    inherited.

    Args:
        steps: gradient steps of a candidate, a number that is rounded after `stretch`; 0 measures what it
            inherits. Several numbers are those of the rungs of :class:`search.Ladder`: a candidate with its
            parent's genome stands one rung above it.
        first_steps: of one that has nothing to inherit, where the base model comes untrained; candidates
            without parents go on from the base model then, as the engine evaluated it, and a copy of it is
            it. None: as many as of all.
        first_learning_rate: of the base model where it comes untrained; None: that of all.
        stretch: smaller models take more steps: `steps` over the share of the base model's MACs to this
            power. 0: all take as many; 1: all take as many MACs.
        batch_size: of training.
        learning_rate: at the peak of the cycle.
        optimiser: ``adamw`` or ``sgd``; it begins anew with every candidate.
        weight_decay: of the weights.
        schedule: ``one-cycle`` within the steps, or ``constant``.
        clip: largest norm of the gradient; None leaves it as it is.
        recalibration: the split whose inputs give the BatchNorm statistics after training; None leaves those
            of training.
        record_activations: whether reports carry ``activation``.
        worth: says what each channel is worth, for :class:`operators.mutation.RemovalPruning`; null: nothing
            does.
        distillation: learn from the base model as well, as the engine evaluated it; it itself learns from
            labels alone. Null: so do all.
        tic: tells by Takeuchi's information criterion what the training loss hides, for
            :class:`search.Ladder` to promote by; null: no.
        bias_samples: the first samples of the search split, on which it does.
        mixtures: of training samples, of which the base model is asked once and children learn from it alone,
            since mixtures have no labels.
        precision: of the steps, as of :class:`evaluators.Training`; so are `accumulation` and
            `checkpointing`.

    Raises:
        InputError: a setting out of its range; when it is bound: no data, a space whose candidates cannot
            inherit, or without a slice plan where `stretch` or `worth` asks for one.
    """

    inherits = measures = True
    later_arguments = LATER
    _planned: PlannedCosts | None = None

    def __init__(
        self,
        steps: float | Sequence[float] = 16,
        batch_size: int = 64,
        learning_rate: float = 2e-3,
        optimiser: OptimiserName = "adamw",
        weight_decay: float = 0.01,
        schedule: ScheduleName = "one-cycle",
        clip: float | None = None,
        recalibration: Split | None = "calibration",
        record_activations: bool = True,
        first_steps: int | None = None,
        first_learning_rate: float | None = None,
        stretch: float = 0.0,
        worth: Worth | None = None,
        distillation: Distillation | None = None,
        mixtures: int = 0,
        tic: TIC | None = None,
        bias_samples: int = 64,
        precision: Precision | None = None,
        accumulation: int | None = None,
        checkpointing: Sequence[str] | None = None,
    ) -> None:
        self.steps = (steps,) if isinstance(steps, int | float) else tuple(steps)
        require(
            "evaluator InheritedTraining",
            (self.steps, "steps []; expected a number, or one for every rung"),
            (min(self.steps, default=0) >= 0, f"steps {min(self.steps, default=0)}; expected at least 0"),
            (first_steps is None or first_steps >= 0, f"first_steps {first_steps}; expected at least 0"),
            (
                first_learning_rate is None or first_learning_rate > 0,
                f"first_learning_rate {first_learning_rate}; expected a number above 0 or null",
            ),
            (stretch >= 0, f"stretch {stretch}; expected at least 0"),
            (mixtures >= 0, f"mixtures {mixtures}; expected at least 0"),
            (bias_samples >= 4, f"bias_samples {bias_samples}; expected at least 4"),
            (
                not mixtures or distillation is not None,
                f"mixtures {mixtures}, which have no labels; expected a distillation",
            ),
        )
        self.settings = TrainingSettings(
            batch_size=batch_size,
            learning_rate=learning_rate,
            optimiser=optimiser,
            weight_decay=weight_decay,
            schedule=schedule,
            clip=clip,
            distillation=distillation,
            precision=precision,
            accumulation=accumulation,
            checkpointing=None if checkpointing is None else tuple(checkpointing),
        )
        self.first_steps, self.first_learning_rate = first_steps, first_learning_rate
        self.stretch, self.worth, self.mixtures = stretch, worth, mixtures
        self.tic, self.bias_samples = tic, bias_samples
        self.quality = Quality(recalibration=recalibration, record_activations=record_activations)
        self._teacher: Teacher | None = None

    @property
    def recalibration(self) -> Split | None:
        return self.quality.recalibration

    @property
    def record_activations(self) -> bool:
        return self.quality.record_activations

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        return (
            *(("train_loss",) if max(self.steps) else ()),
            *self.quality.metrics,
            "generation",
            "lineage_steps",
            *(("rung",) if self.rungs > 1 else ()),
            *(("tic_bias", "tic_error") if self.tic is not None else ()),
            *(("training_macs",) if self._planned is not None else ()),
        )

    @property
    def trains(self) -> bool:  # type: ignore[override]
        """Whether there is a step to take."""
        return max(self.steps) > 0

    @property
    def rungs(self) -> int:  # type: ignore[override]
        """How often a candidate may be trained on."""
        return len(self.steps)

    def bind(self, space: Space, data: Data | None = None) -> None:
        super().bind(space, data)
        if data is None:
            raise InputError("evaluator InheritedTraining: no data; expected data with a training split")
        self._transfer = transfer_of(space, data)
        self._planned = PlannedCosts(space.plan) if isinstance(space, Sliced) else None
        if self._planned is None and (self.stretch or self.worth):
            raise InputError(
                f"evaluator InheritedTraining: stretch or worth, but {type(space).__name__} has no slice "
                f"plan; expected spaces.ChannelSpace"
            )
        self.quality.bind(space, data)
        self._check_settings(space)
        self._teacher = None
        self._bias = (
            None
            if self.tic is None
            else BiasEstimate("InheritedTraining", self.tic, data, "search", self.bias_samples)
        )
        self._allowance = Allowance(self.steps, self.first_steps, self.stretch, self._planned, space.base)
        self._accounting = Accounting(self._planned, data, self.recalibration)
        self._runs = with_former(lambda: self._digest(space, data))

    def retain(self, ids: Collection[int]) -> None:
        if self.state is not None:
            InheritedFiles(Path(self.state)).retain(ids)

    def damaged(self) -> dict[int, Path]:
        return {} if self.state is None else InheritedFiles(Path(self.state)).damaged()

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        parentage = self._parentage
        found = parentage.left_by(candidate)
        known = found is not None
        if found is None:
            parent = self._inherit(model, candidate, parentage)
            found = self._train(model, candidate, parentage, parent)
        else:
            self._transfer.load(model, candidate.genome, found.tensors, candidate.genome)
        metrics, arrays, passes = self._measure(model, candidate, found)
        # what failed leaves nothing: no candidate goes on from it
        if not known and all(map(math.isfinite, metrics.values())):
            parentage.put_away(candidate, model, found)
        worth, more = self._tell_worth(model, candidate, found)
        macs = self._accounting(model, candidate.genome, found.samples, passes + more)
        yield Report(metrics | macs, arrays=arrays | worth)

    @property
    def _parentage(self) -> Parentage:
        files = None if self.state is None else InheritedFiles(Path(self.state))
        return Parentage(self.space, self._transfer, self._runs, self.first_steps is not None, files)

    def _inherit(self, model: nn.Module, candidate: Candidate, parentage: Parentage) -> ParentRecord | None:
        """Give a model the weights that it begins with; return what they come from, None where it begins as
        it is.
        """
        parent = parentage.parent(candidate, model)
        if parent is not None:
            self._transfer.load(model, candidate.genome, parent.tensors, parent.genome)
        return parent

    def _train(
        self, model: nn.Module, candidate: Candidate, parentage: Parentage, parent: ParentRecord | None
    ) -> ParentRecord:
        """Train a model that has its weights, and return what is known of it, with the tensors that it went
        on from.
        """
        assert self.data is not None
        rung = parentage.rung(candidate, parent)
        steps = self._allowance(candidate.genome, rung, parent is not None, not candidate.parents)
        # whether this is the base model itself, in the weights that it was given
        untrained = self.first_steps is not None and parent is None and parentage.origin(candidate) != "fresh"
        settings = self.settings.changed(settings_of(self.space, candidate.genome))
        if untrained and self.first_learning_rate is not None:
            settings = replace(settings, learning_rate=self.first_learning_rate)
        taught = self.settings.distillation is not None and candidate.id != BASE and not untrained
        teacher = self._taught_by(parentage, device_of(model)) if taught and steps else None
        loss, samples = BriefTraining(settings)(model, self.data, candidate.seed, steps, teacher)
        owner = parentage.owner(candidate)
        if parent is None:
            return ParentRecord({}, owner, loss, steps, 0, samples, rung)
        return ParentRecord(
            parent.tensors, owner, loss, parent.steps + steps, parent.generation + 1, samples, rung
        )

    def _measure(
        self, model: nn.Module, candidate: Candidate, found: ParentRecord
    ) -> tuple[dict[str, float], dict[str, np.ndarray], float]:
        """Repair and measure a trained model; return metrics, arrays, and the sample passes that TIC took."""
        metrics: dict[str, float] = {"train_loss": found.train_loss} if max(self.steps) else {}
        (measured,) = self.quality.evaluate(model, candidate)
        metrics |= measured.metrics
        metrics |= {"generation": float(found.generation), "lineage_steps": float(found.steps)}
        if self.rungs > 1:
            metrics["rung"] = float(found.rung)
        if self._bias is None:
            return metrics, dict(measured.arrays), 0.0
        told = self._bias(model, metrics.get("train_loss", metrics["loss"]))
        bias, error = (math.nan, math.nan) if told is None else (told.bias, told.error)
        return metrics | {"tic_bias": bias, "tic_error": error}, dict(measured.arrays), self._bias.passes

    def _tell_worth(
        self, model: nn.Module, candidate: Candidate, found: ParentRecord
    ) -> tuple[dict[str, np.ndarray], float]:
        """Return what the channels are worth, where that is asked for, and the sample passes that it took."""
        if self.worth is None:
            return {}, 0.0
        assert self.data is not None
        space: Any = self.space
        passed = found.samples or max(self.steps) * self.settings.batch_size
        return self.worth(space, candidate.genome, model, self.data, 3.0 * passed)

    def _check_settings(self, space: Space) -> None:
        """Make sure that all settings that genomes may hold are known, and their values accepted."""
        check_settings(space, (ORIGIN, *TUNABLE), "InheritedTraining")
        for name, values in choices_of(space).items():
            if name == "distillation_weight" and self.distillation is None:
                raise InputError(
                    f"evaluator InheritedTraining: nothing takes the parameter {name!r} here; expected a "
                    f"distillation"
                )
            for value in values:
                if name != ORIGIN:
                    self.settings.changed({name: value})
                elif value not in ORIGINS:
                    raise InputError(
                        f"evaluator InheritedTraining: origin {value!r}; expected one of {', '.join(ORIGINS)}"
                    )
                elif value == "fresh" and space.base is not None:
                    with torch.random.fork_rng(devices=[]):
                        self._transfer.redraw(space.build(space.base))

    def _taught_by(self, parentage: Parentage, device: torch.device) -> Teacher:
        """Return the base model, as the engine evaluated it where it left its file, else as it was given."""
        if self._teacher is None:
            assert self.data is not None and self.space.base is not None
            with torch.random.fork_rng(devices=[]):
                model = self.space.build(self.space.base)
            left = parentage.left_by_base()
            if left is not None:
                model.load_state_dict(dict(left.tensors))
            self._teacher = Teacher(model.to(device), self.data, mixtures=self.mixtures)
        return self._teacher

    def _digest(self, space: Space, data: Data) -> str:
        """Return what the files of a run say: same space, data and settings, same run."""
        settings = {name: getattr(self.settings, name) for name in _DIGESTED}
        if self.distillation is not None:
            settings["distillation"] = sorted(vars(self.distillation).items())
        first = None if self.first_learning_rate is None else {"learning_rate": self.first_learning_rate}
        own = [
            self.steps,
            sorted(settings.items()),
            self.first_steps,
            first,
            self.stretch,
            self.mixtures,
        ]
        text = json.dumps([space.fingerprint, data.fingerprint, own, self.recalibration])
        return hashlib.sha256(text.encode()).hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_teacher": None}
