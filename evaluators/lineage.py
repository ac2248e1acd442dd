"""Inherited weights: a child goes on from its parent's tuned weights, so that training is spent once on a lineage."""

from __future__ import annotations

import hashlib
import json
import math
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from evaluators.base import Candidate, Evaluator, Report
from evaluators.data.base import Data, Split
from evaluators.data.preloaded import to_device
from evaluators.optimisation import OptimiserName, ScheduleName, make_optimiser, make_schedule, needs_two_samples, train_mode
from evaluators.quality import Quality
from evaluators.training import Training
from operators.forward import device_of, forward
from spaces.base import Space
from spaces.channels.trace import mode
from spaces.errors import InputError
from spaces.mixed_pairs import Pairs

_ENDLESS = 2**31


class LineageTraining(Evaluator):
    """A few gradient steps on what the candidate's first parent ended with, then what :class:`Quality` measures. [O]

    Weights are inherited as in Real et al. 2017 (arXiv 1703.01041) and Elsken et al. 2019 (arXiv 1804.09081) [P]; that channels come back
    with their ancestors' values is ours.

    A candidate begins with the kept part of its first parent's full tensors; one without parents, or whose parent left no file, with the
    slice of the base model that it was built as. It is trained for `steps` on the training split, repaired and measured on the
    search split. Its tensors are put back to their places in the parent's full ones, so a channel that a later child grows back comes with
    the values that its last owner gave it. Neither the optimiser's moments nor the weights of further parents are inherited.

    Reports, once: ``train_loss`` (the mean over the steps, each before it is taken; only where there are steps), ``loss`` and the data's
    metrics on the search split, ``generation`` (how many ancestors it goes on from) and ``lineage_steps`` (gradient steps since the base
    model, its own included), and ``activation`` as in :class:`Quality`.

    With a ``state`` folder (the engine gives it) full tensors lie in ``state/lineage/<id>.safetensors``, written before the report. A
    candidate that has its file is not trained again, whoever evaluates it: a resumed run, ``Result.build``, the finish, which fine-tunes
    from there. A file that is damaged or of another run or genome counts as none. Files are not deleted, since who may still become a
    parent is known to the strategy alone: count on the full model's bytes times the evaluations. Workers on several machines need
    the folder on a file system that they share. Without a folder everybody begins with the base model.

    What stands behind it in a list of evaluators sees the trained model; what changes weights there is not inherited.

    Args:
        steps: gradient steps of a candidate; 0 measures what it inherits.
        batch_size: of training.
        learning_rate: at the peak of the cycle.
        optimiser: ``adamw`` or ``sgd``; it begins anew with every candidate.
        weight_decay: of the weights.
        schedule: ``one-cycle`` within the steps, or ``constant``.
        clip: largest norm of the gradient; None leaves it as it is.
        recalibration: the split whose inputs give the BatchNorm statistics after training; None leaves those of training.
        record_activations: whether reports carry ``activation``.

    Raises:
        InputError: a setting out of its range; when it is bound: no data, or a space without full tensors to inherit.
    """

    inherits = True

    def __init__(
        self,
        steps: int = 16,
        batch_size: int = 64,
        learning_rate: float = 2e-3,
        optimiser: OptimiserName = "adamw",
        weight_decay: float = 0.01,
        schedule: ScheduleName = "one-cycle",
        clip: float | None = None,
        recalibration: Split | None = "calibration",
        record_activations: bool = True,
    ) -> None:
        if steps < 0:
            raise InputError(f"evaluator LineageTraining: steps {steps}; expected at least 0")
        Training(1, optimiser, learning_rate, weight_decay, batch_size, schedule, clip)  # says what is wrong before anything starts
        self.steps, self.batch_size, self.learning_rate, self.optimiser = steps, batch_size, learning_rate, optimiser
        self.weight_decay, self.schedule, self.clip = weight_decay, schedule, clip
        self.quality = Quality(recalibration=recalibration, record_activations=record_activations)

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*(("train_loss",) if self.steps else ()), *self.quality.metrics, "generation", "lineage_steps")

    def bind(self, space: Space, data: Data | None = None) -> None:
        super().bind(space, data)
        if data is None:
            raise InputError("evaluator LineageTraining: no data; expected data with a training split")
        if isinstance(space, Pairs) or not callable(getattr(space, "gather", None)) or not callable(getattr(space, "scatter", None)):
            raise InputError(
                f"evaluator LineageTraining: space {type(space).__name__} has no tensors to inherit; expected spaces.ChannelSpace, "
                "or a space with its gather and scatter"
            )
        self.quality.bind(space, data)
        own = [self.steps, self.batch_size, self.learning_rate, self.optimiser, self.weight_decay, self.schedule, self.clip]
        text = json.dumps([space.fingerprint, data.fingerprint, own, self.quality.recalibration])
        self._run = hashlib.sha256(text.encode()).hexdigest()

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        files = None if self.state is None else LineageFiles(Path(self.state))
        own = None if files is None else files.read(candidate.id)
        known = own is not None and own.owner == self._owner(candidate)
        found = own if own is not None and known else self._descend(model, candidate, files)
        if known:
            self._load(model, candidate, found.tensors)
        metrics: dict[str, float] = {"train_loss": found.train_loss} if self.steps else {}
        (measured,) = self.quality.evaluate(model, candidate)
        metrics |= measured.metrics | {"generation": float(found.generation), "lineage_steps": float(found.steps)}
        if files is not None and not known and all(map(math.isfinite, metrics.values())):  # else it failed, and nobody descends from it
            compact = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
            files.write(candidate.id, found.with_tensors(self._scatter(candidate, compact, found.tensors)))
        yield Report(metrics, arrays=measured.arrays)

    def _descend(self, model: nn.Module, candidate: Candidate, files: LineageFiles | None) -> Inheritance:
        """Give a model the weights of its candidate's first parent, train it, and return what is known of it, with the parent's tensors."""
        parent = files.read(candidate.parents[0]) if files is not None and candidate.parents else None
        if parent is not None and parent.owner["run"] != self._run:
            parent = None
        if parent is not None:
            self._load(model, candidate, parent.tensors)
        before, generation = (0, 0) if parent is None else (parent.steps, parent.generation + 1)
        loss = self._train(model, candidate.seed)
        return Inheritance({} if parent is None else parent.tensors, self._owner(candidate), loss, before + self.steps, generation)

    def _load(self, model: nn.Module, candidate: Candidate, full: Mapping[str, Tensor]) -> None:
        space: Any = self.space
        model.load_state_dict(space.gather(candidate.genome, full))

    def _scatter(self, candidate: Candidate, compact: Mapping[str, Tensor], full: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return full tensors with a compact model's at their places in `full`, or in the base model's where that is empty."""
        space: Any = self.space
        return dict(space.scatter(candidate.genome, compact, full or None))

    def _train(self, model: nn.Module, seed: int) -> float:
        """Take the steps and return the mean loss; nothing is drawn from the random numbers outside."""
        if not self.steps:
            return 0.0
        assert self.data is not None
        device = device_of(model)
        optimiser = make_optimiser(self.optimiser, model, self.learning_rate, self.weight_decay)
        schedule = make_schedule(self.schedule, optimiser, self.learning_rate, self.steps)
        total = torch.zeros((), dtype=torch.float64, device=device)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), mode(model, True):
            torch.manual_seed(seed)
            train_mode(model)
            batches = self._batches(torch.Generator().manual_seed(seed), 2 if needs_two_samples(model) else 1)
            for step, batch in zip(range(1, self.steps + 1), batches, strict=False):
                inputs, targets = to_device(batch, device)
                loss = self.data.loss(forward(model, inputs), targets).mean()
                optimiser.zero_grad()
                loss.backward()
                if self.clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), self.clip)
                optimiser.step()
                if schedule is not None and step < self.steps:  # the last step has no successor
                    schedule.step()
                total += loss.detach()
        return total.item() / self.steps

    def _batches(self, order: torch.Generator, least: int) -> Iterator[Any]:
        """Yield batches of the training split, epoch after epoch; those of less than `least` samples have no statistics."""
        assert self.data is not None
        if min(self.data.size("train"), self.batch_size) < least:
            raise InputError(f"evaluator LineageTraining: batches of one sample; expected at least {least}, for BatchNorm")
        for _ in range(_ENDLESS):
            for batch in self.data.batches("train", self.batch_size, order):
                if len(batch[1]) >= least:
                    yield batch

    def _owner(self, candidate: Candidate) -> dict[str, Any]:
        """What a file must say for a candidate to take it as its own."""
        return {
            "run": self._run,
            "genome": candidate.genome.tobytes().hex(),
            "seed": candidate.seed,
            "parents": list(map(int, candidate.parents)),
        }


@dataclass(frozen=True, eq=False)
class Inheritance:
    """What a candidate leaves to its children.

    Attributes:
        tensors: the full model's ``state_dict``: its own values where it keeps them, else its ancestors'.
        owner: whose they are.
        train_loss: of its own training.
        steps: gradient steps since the base model.
        generation: ancestors since the base model.
    """

    tensors: Mapping[str, Tensor]
    owner: dict[str, Any]
    train_loss: float
    steps: int
    generation: int

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Inheritance:
        """Return it with other tensors."""
        return Inheritance(tensors, self.owner, self.train_loss, self.steps, self.generation)


class LineageFiles:
    """What the candidates of a run leave to their children, one safetensors file each, written to a temporary name and renamed.

    Args:
        folder: of the run's heavy state; the files lie in ``lineage`` below it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "lineage"

    def path(self, id: int) -> Path:
        """Return where the file of a candidate lies; the base model has the id -1."""
        return self.folder / ("base.safetensors" if id < 0 else f"{id:08d}.safetensors")

    def write(self, id: int, left: Inheritance) -> None:
        """Keep what a candidate leaves; a reader sees all of it or nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(id)
        temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
        plain = {"owner": left.owner, "train_loss": left.train_loss, "steps": left.steps, "generation": left.generation}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in left.tensors.items()}
        try:
            save_file(tensors, temporary, metadata={"lineage": json.dumps(plain)})
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def read(self, id: int) -> Inheritance | None:
        """Return what a candidate left; None where there is no file, or a damaged one."""
        try:
            with safe_open(self.path(id), "pt") as file:
                plain = json.loads(file.metadata()["lineage"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
            return Inheritance(tensors, plain["owner"], plain["train_loss"], plain["steps"], plain["generation"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None
