"""Training and measuring pairs of an encoder and a decoder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.assessment import assess, assessed
from evaluators.base import Candidate, Evaluator, Report
from evaluators.data.base import SPLITS, Data, Inputs, Split
from evaluators.data.preloaded import Preloaded, to_device
from evaluators.pairs.corruption import Corruption
from evaluators.pairs.optimisers import (
    PAIR_OPTIMISERS,
    FreshAdam,
    Moments,
    PairOptimiserName,
    Stepping,
    TailAverage,
    Travelling,
    one_cycle,
)
from evaluators.pairs.state import CellFiles, PairState
from evaluators.training.optimisation import needs_two_samples, train_mode
from spaces.base import Masked, Sliced, Space
from spaces.calling import call, device_of, forward, gradients, mode, placed
from spaces.errors import InputError, require
from spaces.pairs.pair import between, decode
from spaces.structures import samples

_BATCH = 1024

Masks = Mapping[str, Tensor]
"""Which entries of a parameter are alive, bool, by name; parameters that are whole are left out."""


class PairTraining(Evaluator):
    """What a step of coevolution does with pairs: the losses of all encoders with all decoders, training,
    measuring. [O]

    As an evaluator it measures without training. Metrics: ``loss`` and those of the data on the search split,
    ``train_loss`` (of the training split here, of the batches trained on in :meth:`train`), ``alive``, the
    number of parameters that are, and ``kept``, their share.

    Args:
        epochs: passes over the training split in one :meth:`train`.
        batches: train on so many batches instead; they go on into a new pass where one ends.
        batch_size: of training.
        optimiser: ``adam``, ``adamw`` (decoupled weight decay) or ``sgd`` (Nesterov momentum, the first of
            `betas`).
        learning_rate: where an individual starts; :meth:`train` is told its own.
        schedule: of the learning rate within one :meth:`train`: ``one-cycle`` rises over a fifth of it and
            falls to zero.
        betas: of Adam.
        weight_decay: of all parameters.
        fresh_optimiser: every batch meets a new Adam, whose first step is g / (|g| + 1e-8): the published
            code makes one a batch. [P]
        average: share of the last steps of a :meth:`train` whose mean the pair ends with
            (:class:`TailAverage`).
        corruption: the loss in training; None for the data's own.
        match_batch: samples on which encoders meet decoders (:meth:`draw`).
        match_split: where those come from.

    Raises:
        InputError: a setting out of its range, named.
    """

    measures = trains = True

    def __init__(
        self,
        epochs: int = 1,
        batches: int | None = None,
        batch_size: int = 32,
        optimiser: PairOptimiserName = "adam",
        learning_rate: float = 1e-3,
        schedule: Literal["constant", "one-cycle"] = "constant",
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        fresh_optimiser: bool = False,
        average: float = 0.0,
        corruption: Corruption | None = None,
        match_batch: int = 256,
        match_split: Split = "train",
    ) -> None:
        require(
            "training",
            (epochs >= 1, f"epochs {epochs}; expected at least 1"),
            (batches is None or batches >= 1, f"batches {batches}; expected at least 1 or null"),
            (batch_size >= 1, f"batch_size {batch_size}; expected at least 1"),
            (optimiser in PAIR_OPTIMISERS, f"optimiser {optimiser!r}; expected {', '.join(PAIR_OPTIMISERS)}"),
            (learning_rate > 0, f"learning_rate {learning_rate}; expected a number above 0"),
            (schedule in ("constant", "one-cycle"), f"schedule {schedule!r}; expected constant or one-cycle"),
            (
                len(betas) == 2 and all(0 <= b < 1 for b in betas),
                f"betas {betas}; expected two numbers of at least 0 and below 1",
            ),
            (weight_decay >= 0, f"weight_decay {weight_decay}; expected a number of at least 0"),
            (not fresh_optimiser or optimiser == "adam", f"fresh_optimiser with {optimiser}; expected adam"),
            (0 <= average <= 1, f"average {average}; expected a share of 0 to 1"),
            (match_batch >= 1, f"match_batch {match_batch}; expected at least 1"),
            (
                match_split in SPLITS and match_split != "test",
                f"match_split {match_split!r}; expected train, calibration or search",
            ),
        )
        self.epochs: int = epochs
        self.batches, self.batch_size = batches, batch_size
        self.optimiser, self.learning_rate, self.weight_decay = optimiser, learning_rate, weight_decay
        self.schedule: Literal["constant", "one-cycle"] = schedule
        self.betas = (betas[0], betas[1])
        self.fresh_optimiser, self.average, self.corruption = fresh_optimiser, average, corruption
        self.match_batch, self.match_split = match_batch, match_split

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("loss", "train_loss", *assessed(self.data)[1:], "kept", "alive")

    def bind(self, space: Space, data: Data | None = None) -> None:
        """Raises :class:`InputError` without data, or where the corruption cannot teach the space's pair."""
        super().bind(space, data)
        if data is None:
            raise InputError("evaluator PairTraining: no data; expected data with a training split")
        if self.corruption is not None and isinstance(space, Masked | Sliced):
            self.corruption.check(space.model)
        self._batches = Preloaded(data)

    def evaluate(self, model: nn.Module, candidate: Candidate) -> Iterator[Report]:
        """Yield the metrics of a built model; ``kept`` is its genome's where the space counts parameters.

        Where a cell step has left a pair in the folder of the run's state, the model gets its weights first.
        """
        files = None if self.state is None else CellFiles(self.state)
        if files is not None and files.has(candidate.id):
            full = PairState.from_bytes(files.read(candidate.id)).tensors()
            assert isinstance(self.space, Masked)  # or there would be no such file
            model.load_state_dict(self.space.gather(candidate.genome, full))
        metrics = self.measure(model)
        metrics["train_loss"] = assess(
            model, self._data, self._batches.batches("train", _BATCH, device_of(model)), whole=False
        )["loss"]
        if isinstance(self.space, Masked):
            whole = self.space.whole(*self.space.architectures(candidate.genome))
            alive, full_size = self.space.parameters(np.stack([candidate.genome, whole]))
            metrics |= {"kept": float(alive / full_size), "alive": float(alive)}
        yield Report(metrics)

    def measure(self, pair: nn.Module, masks: Masks | None = None) -> dict[str, float]:
        """Return the metrics of a pair on the search split, in eval mode, without ``train_loss``.

        Args:
            masks: of a full pair, for ``kept`` and ``alive``; without them what is not 0 is alive.
        """
        metrics = assess(pair, self._data, self._batches.batches("search", _BATCH, device_of(pair)))
        share, whole = kept(pair, masks), sum(parameter.numel() for parameter in pair.parameters())
        return {**metrics, "kept": share, "alive": float(round(share * whole))}

    def draw(self, generator: torch.Generator) -> tuple[Inputs, Tensor]:
        """Return a batch on which encoders meet decoders: inputs and targets, drawn without replacement."""
        return next(iter(self._data.batches(self.match_split, self.match_batch, generator)))

    def losses(
        self, encoders: Sequence[nn.Module], decoders: Sequence[nn.Module], inputs: Inputs, targets: Tensor
    ) -> Tensor:
        """Return the mean loss of every encoder with every decoder, ``(encoders, decoders)``; modes stay.
        Every encoder runs once.

        Of a latent distribution the mean is handed on.
        """
        model = self.space.model if isinstance(self.space, Masked | Sliced) else None
        table = torch.empty(len(encoders), len(decoders))
        with torch.no_grad():
            for i, encoder in enumerate(encoders):
                with mode(encoder, False):
                    latent = between(model, forward(encoder, inputs))
                for j, decoder in enumerate(decoders):
                    with mode(decoder, False):
                        outputs = decode(decoder, latent)
                    table[i, j] = self._data.loss(outputs, placed(targets, outputs.device)).mean()
        return table

    @gradients()
    def train(
        self,
        pair: nn.Module,
        masks: Masks,
        moments: Moments,
        learning_rate: float,
        generator: torch.Generator,
    ) -> tuple[float, Moments]:
        """Train a full pair in place; return the mean training loss of the samples, each before the step that
        learned from it, and moments.

        What is not alive is set to 0 first, in weights and moments, and stays 0: its gradients are zeroed
        before every step. A loss that is not finite is returned as NaN, and the pair is then of no use.
        Random numbers (order, noise, dropout) follow from `generator` alone.

        Args:
            masks: empty where weights may regrow.
            moments: of the optimiser, which stay as they are; those of parameters that are missing start
                afresh.
            learning_rate: of this training.
            generator: on the CPU.
        """
        parameters = {name: p for name, p in pair.named_parameters() if p.requires_grad}
        alive = {name: mask.to(parameters[name]) for name, mask in masks.items() if name in parameters}
        with torch.no_grad():
            for name, mask in alive.items():
                parameters[name].mul_(mask)
        step = self._stepping(parameters, alive, moments, learning_rate)
        done, steps = 0, self._steps()
        tail = TailAverage(list(parameters.values()), steps, self.average)
        device = device_of(pair)
        # added up where the model is, so that no step waits for the device
        total, seen = torch.zeros((), dtype=torch.float64, device=device), 0
        masked = [(parameters[name], mask) for name, mask in alive.items()]
        with mode(pair, True), torch.random.fork_rng(devices=[]):
            # dropout draws from torch's own generator: its seed is the first that is drawn, the order is next
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            train_mode(pair)
            two = needs_two_samples(pair)
            for batch in self._stream(generator):
                inputs, targets = to_device(batch, device)
                if two and samples(targets, inputs) == 1 and seen:
                    continue
                losses = self._losses(pair, inputs, targets, generator)
                for parameter in parameters.values():
                    parameter.grad = None
                losses.mean().backward()
                _zero_dead(masked)  # before the step, or moments of dead weights would grow
                step(one_cycle((done := done + 1) / steps) if self.schedule == "one-cycle" else 1.0)
                tail()
                total += losses.detach().sum(dtype=torch.float64)
                seen += samples(targets, inputs)
        tail.settle()
        for parameter in parameters.values():
            parameter.grad = None
        loss = total.item() / seen
        return (loss if math.isfinite(loss) else math.nan), step.moments()

    @property
    def _data(self) -> Data:
        assert self.data is not None  # or bind would have refused it
        return self.data

    def _stepping(
        self,
        parameters: Mapping[str, nn.Parameter],
        alive: Mapping[str, Tensor],
        moments: Moments,
        learning_rate: float,
    ) -> Stepping:
        if self.fresh_optimiser:
            return FreshAdam(parameters, learning_rate, self.weight_decay)
        return Travelling(
            self.optimiser, parameters, learning_rate, self.betas, self.weight_decay, moments, alive
        )

    def _losses(self, pair: nn.Module, inputs: Inputs, targets: Tensor, generator: torch.Generator) -> Tensor:
        if self.corruption is None:
            return self._data.loss(call(pair, inputs), targets)
        return self.corruption.losses(pair, self._data, inputs, targets, generator)

    def _steps(self) -> int:
        """Batches of one :meth:`train`."""
        return self.batches or self.epochs * math.ceil(self._data.size("train") / self.batch_size)

    def _stream(self, generator: torch.Generator) -> Iterator[tuple[Inputs, Tensor]]:
        """Yield the batches of one :meth:`train`."""
        if self.batches is None:
            for _ in range(self.epochs):
                yield from self._data.batches("train", self.batch_size, generator)
            return
        left = self.batches
        while left:
            for batch in islice(self._data.batches("train", self.batch_size, generator), left):
                left -= 1
                yield batch


def _zero_dead(masked: Sequence[tuple[nn.Parameter, Tensor]]) -> None:
    """Multiply the gradients of parameters by their masks, in place."""
    known = [(parameter.grad, mask) for parameter, mask in masked if parameter.grad is not None]
    if known:
        torch._foreach_mul_([gradient for gradient, _ in known], [mask for _, mask in known])


def kept(pair: nn.Module, masks: Masks | None = None) -> float:
    """Return the share of a pair's parameters that are alive by their masks, or without masks the share that
    are not 0.
    """
    parameters = dict(pair.named_parameters())
    whole = sum(p.numel() for p in parameters.values())
    if masks is None:
        return sum(int(torch.count_nonzero(p)) for p in parameters.values()) / max(whole, 1)
    return 1 - sum(int((~mask.bool()).sum()) for name, mask in masks.items() if name in parameters) / max(
        whole, 1
    )
