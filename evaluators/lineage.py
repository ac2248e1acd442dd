"""Inherited weights: a child goes on from its parent's tuned weights, so that training is spent once on a
lineage.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from evaluators.base import Candidate, Evaluator, Report
from evaluators.bias import BiasEstimate
from evaluators.brief_training import TUNABLE, BriefTraining
from evaluators.data.base import Data, Split
from evaluators.distillation import Distillation
from evaluators.genome_settings import check_settings, choices_of, settings_of
from evaluators.heritage import heritage_of
from evaluators.lineage_files import Inheritance, LineageFiles
from evaluators.optimisation import OptimiserName, ScheduleName
from evaluators.planned import PlannedCosts
from evaluators.quality import Quality
from evaluators.removal import Worth, has_norms
from evaluators.teaching import Teacher
from evaluators.tic import TIC
from operators.forward import device_of
from spaces.base import Space
from spaces.channels.plan import SlicePlan
from spaces.errors import InputError

ORIGIN = "origin"
"""The setting of a genome that says where its weights come from."""
ORIGINS = ("inherited", "original", "fresh")
"""Of the first parent; of the base model, as it was evaluated; drawn anew."""

_BASE = -1  # the base model's id


class LineageTraining(Evaluator):
    """A few gradient steps on what the candidate's first parent ended with, then what :class:`Quality`
    measures. [O]

    Weights are inherited as in Real et al. 2017 (arXiv 1703.01041) and Elsken et al. 2019 (arXiv 1804.09081)
    [P]; that channels come back with their ancestors' values is ours.

    A candidate begins with the kept part of its first parent's full tensors, an architecture (of a
    ``ChoiceSpace``) as its first parent's function where it only grew and that can be had, else with what
    their tensors have in common (:mod:`evaluators.heritage`); one without parents, or whose parent left no
    file, with the slice of the base model that it was built as. It is trained for `steps` on the training
    split, repaired and measured on the search split. Its tensors are put back to their places in the parent's
    full ones, so a channel that a later child grows back comes with the values that its last owner gave it.
    Neither the optimiser's moments nor the weights of further parents are inherited.

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
    another run or genome counts as none. Files of those who can neither become parents any more nor are on
    the front are deleted now and then, where the strategy knows who they are (:meth:`search.Strategy.heirs`).
    Workers on several machines need the folder on a file system that they share. Without a folder everybody
    begins with the base model.

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

    Raises:
        InputError: a setting out of its range; when it is bound: no data, a space whose candidates cannot
            inherit, or without a slice plan where `stretch` or `worth` asks for one.
    """

    inherits = True

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
    ) -> None:
        self.steps = (steps,) if isinstance(steps, int | float) else tuple(steps)
        if not self.steps:
            raise InputError("evaluator LineageTraining: steps []; expected a number, or one for every rung")
        least = min(self.steps)
        for name, value in (
            ("steps", least),
            ("first_steps", first_steps or 0),
            ("stretch", stretch),
            ("mixtures", mixtures),
        ):
            if value < 0:
                raise InputError(f"evaluator LineageTraining: {name} {value}; expected at least 0")
        if bias_samples < 4:
            raise InputError(f"evaluator LineageTraining: bias_samples {bias_samples}; expected at least 4")
        if mixtures and distillation is None:
            raise InputError(
                f"evaluator LineageTraining: mixtures {mixtures}, which have no labels; expected a "
                f"distillation"
            )
        self.training = BriefTraining(
            batch_size, learning_rate, optimiser, weight_decay, schedule, clip, distillation
        )
        self.first_rate = None if first_learning_rate is None else {"learning_rate": first_learning_rate}
        self.training.changed(self.first_rate or {})  # says what is wrong
        self.first_steps, self.stretch, self.worth, self.mixtures = first_steps, stretch, worth, mixtures
        self.tic, self.bias_samples = tic, bias_samples
        self._teacher: Teacher | None = None
        self.quality = Quality(recalibration=recalibration, record_activations=record_activations)

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        compute = ("training_macs",) if getattr(self, "_planned", None) else ()
        rung = ("rung",) if self.rungs > 1 else ()
        tic = ("tic_bias", "tic_error") if self.tic is not None else ()
        return (
            *(("train_loss",) if max(self.steps) else ()),
            *self.quality.metrics,
            "generation",
            "lineage_steps",
            *rung,
            *tic,
            *compute,
        )

    @property
    def rungs(self) -> int:
        """How often a candidate may be trained on."""
        return len(self.steps)

    def bind(self, space: Space, data: Data | None = None) -> None:
        super().bind(space, data)
        if data is None:
            raise InputError("evaluator LineageTraining: no data; expected data with a training split")
        self._heritage = heritage_of(space, data)
        plan = getattr(space, "plan", None)
        self._planned = PlannedCosts(plan) if isinstance(plan, SlicePlan) else None
        if self._planned is None and (self.stretch or self.worth):
            raise InputError(
                f"evaluator LineageTraining: stretch or worth, but {type(space).__name__} has no slice "
                f"plan; expected spaces.ChannelSpace"
            )
        self.quality.bind(space, data)
        self._check_settings(space)
        training = vars(self.training) | {
            "distillation": self.training.distillation and sorted(vars(self.training.distillation).items())
        }
        own = [
            self.steps,
            sorted(training.items()),
            self.first_steps,
            self.first_rate,
            self.stretch,
            self.mixtures,
        ]
        self._teacher = None
        self._bias = (
            None
            if self.tic is None
            else BiasEstimate("LineageTraining", self.tic, data, "search", self.bias_samples)
        )
        text = json.dumps([space.fingerprint, data.fingerprint, own, self.quality.recalibration])
        self._run = hashlib.sha256(text.encode()).hexdigest()

    def retain(self, ids: Collection[int]) -> None:
        if self.state is not None:
            LineageFiles(Path(self.state)).retain(ids)

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        files = None if self.state is None else LineageFiles(Path(self.state))
        own = None if files is None else files.read(candidate.id)
        known = own is not None and own.owner == self._owner(candidate)
        found = own if own is not None and known else self._descend(model, candidate, files)
        if known:
            self._heritage.load(model, candidate.genome, found.tensors, candidate.genome)
        metrics: dict[str, float] = {"train_loss": found.train_loss} if max(self.steps) else {}
        (measured,) = self.quality.evaluate(model, candidate)
        metrics |= measured.metrics | {
            "generation": float(found.generation),
            "lineage_steps": float(found.steps),
        }
        if self.rungs > 1:
            metrics["rung"] = float(found.rung)
        tried = 0.0
        if self._bias is not None:
            told = self._bias(model, metrics.get("train_loss", metrics["loss"]))
            metrics |= (
                {"tic_bias": math.nan, "tic_error": math.nan}
                if told is None
                else {"tic_bias": told.bias, "tic_error": told.error}
            )
            tried += self._bias.passes
        if (
            files is not None and not known and all(map(math.isfinite, metrics.values()))
        ):  # else it failed, and nobody descends from it
            compact = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
            files.write(
                candidate.id,
                found.with_tensors(self._heritage.leave(candidate.genome, compact, found.tensors)),
            )
        arrays = dict(measured.arrays)
        if self.worth is not None:
            space: Any = self.space
            assert self.data is not None
            passed = found.samples or max(self.steps) * self.training.batch_size
            more, passes = self.worth(space, candidate.genome, model, self.data, 3.0 * passed)
            arrays, tried = arrays | more, tried + passes
        yield Report(metrics | self._compute(model, candidate, found.samples, tried), arrays=arrays)

    def _compute(
        self, model: nn.Module, candidate: Candidate, samples: int, tried: float
    ) -> dict[str, float]:
        """Return the MACs of all passes of an evaluation in whose training so many samples passed; none where
        they are not known.
        """
        if self._planned is None:
            return {}
        assert self.data is not None
        split = self.quality.recalibration
        scored = self.data.size("search") + (self.data.size(split) if split and has_norms(model) else 0)
        macs = float(self._planned(candidate.genome[None])["macs"][0])
        return {"training_macs": macs * (3.0 * samples + scored + tried)}

    def _training(self, candidate: Candidate) -> BriefTraining:
        """Return how a candidate is trained: by its own settings, where its genome holds some."""
        return self.training.changed(settings_of(self.space, candidate.genome))

    def _check_settings(self, space: Space) -> None:
        """Make sure that all settings that genomes may hold are known, and their values accepted."""
        check_settings(space, (ORIGIN, *TUNABLE), "LineageTraining")
        for name, values in choices_of(space).items():
            if name == "distillation_weight" and self.training.distillation is None:
                raise InputError(
                    f"evaluator LineageTraining: nothing takes the parameter {name!r} here; expected a "
                    f"distillation"
                )
            for value in values:
                if name != ORIGIN:
                    self.training.changed({name: value})
                elif value not in ORIGINS:
                    raise InputError(
                        f"evaluator LineageTraining: origin {value!r}; expected one of {', '.join(ORIGINS)}"
                    )
                elif value == "fresh" and space.base is not None:
                    with torch.random.fork_rng(devices=[]):
                        self._heritage.redraw(space.build(space.base))

    def _steps(self, candidate: Candidate, parent: Inheritance | None) -> int:
        """Return a candidate's gradient steps."""
        steps = self.steps[min(self._rung(candidate, parent), self.rungs - 1)]
        if self.first_steps is not None and parent is None:
            steps = self.first_steps
        elif self.first_steps is not None and not candidate.parents and self._is_base(candidate.genome):
            return 0  # the base model itself, once more
        if not self.stretch or self._planned is None or self.space.base is None:
            return round(steps)
        macs = self._planned(np.stack([candidate.genome, self.space.base]))["macs"]
        return round(steps * float(macs[1] / max(macs[0], 1.0)) ** self.stretch)

    def _descend(self, model: nn.Module, candidate: Candidate, files: LineageFiles | None) -> Inheritance:
        """Give a model the weights that it begins with, train it, and return what is known of it, with the
        tensors that it went on from.
        """
        parent = self._parent(model, candidate, files)
        if parent is not None:
            self._heritage.load(model, candidate.genome, parent.tensors, parent.genome)
        before, generation = (0, 0) if parent is None else (parent.steps, parent.generation + 1)
        steps = self._steps(candidate, parent)
        untrained = (
            self.first_steps is not None and parent is None and self._origin(candidate) != "fresh"
        )  # the base model itself
        taught = self.training.distillation is not None and candidate.id != _BASE and not untrained
        teacher = self._taught_by(files, device_of(model)) if taught and steps else None
        assert self.data is not None
        training = self._training(candidate).changed(self.first_rate or {} if untrained else {})
        loss, samples = training(model, self.data, candidate.seed, steps, teacher)
        tensors = {} if parent is None else parent.tensors
        return Inheritance(
            tensors,
            self._owner(candidate),
            loss,
            before + steps,
            generation,
            samples,
            self._rung(candidate, parent),
        )

    def _parent(
        self, model: nn.Module, candidate: Candidate, files: LineageFiles | None
    ) -> Inheritance | None:
        """Return what a candidate goes on from: its first parent, or as its genome says; None where it begins
        as it was built or drawn.
        """
        first = candidate.parents[0] if candidate.parents else _BASE if self.first_steps is not None else None
        parent = self._left(files, first) if first != candidate.id else None
        origin = self._origin(candidate)
        if origin == "inherited" or self._rung(
            candidate, parent
        ):  # whoever is trained on goes on from itself
            return parent
        if origin == "original":
            return self._left(files, _BASE)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(candidate.seed)
            self._heritage.redraw(model)
        return None

    def _left(self, files: LineageFiles | None, id: int | None) -> Inheritance | None:
        """Return what a candidate of this run left; None where it left nothing."""
        found = files.read(id) if files is not None and id is not None else None
        return found if found is not None and found.owner["run"] == self._run else None

    def _origin(self, candidate: Candidate) -> str:
        return str(settings_of(self.space, candidate.genome).get(ORIGIN, "inherited"))

    def _rung(self, candidate: Candidate, parent: Inheritance | None) -> int:
        """Return how many of its last ancestors had a candidate's genome."""
        again = (
            parent is not None
            and candidate.parents
            and parent.owner["genome"] == self._owner(candidate)["genome"]
        )
        return parent.rung + 1 if again and parent is not None else 0

    def _is_base(self, genome: np.ndarray) -> bool:
        return self.space.base is not None and np.array_equal(genome, self.space.base)

    def _taught_by(self, files: LineageFiles | None, device: torch.device) -> Teacher:
        """Return the base model, as the engine evaluated it where it left its file, else as it was given."""
        if self._teacher is None:
            assert self.data is not None and self.space.base is not None
            with torch.random.fork_rng(devices=[]):
                model = self.space.build(self.space.base)
            left = self._left(files, _BASE)
            if left is not None:
                model.load_state_dict(dict(left.tensors))
            self._teacher = Teacher(model.to(device), self.data, mixtures=self.mixtures)
        return self._teacher

    def _owner(self, candidate: Candidate) -> dict[str, Any]:
        """What a file must say for a candidate to take it as its own."""
        return {
            "run": self._run,
            "genome": candidate.genome.tobytes().hex(),
            "seed": candidate.seed,
            "parents": list(map(int, candidate.parents)),
        }

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_teacher": None}
